"""Where engines differ over what is undefined: two forms of Rego that the portable dialect leaves out.

- `not` before a call or a look-up that reads on the way what may be undefined (`not input.a in {1}`,
  `not table[input.a]`): OPA reads that outside of the `not`, so the condition is false; regorus finds it true.
- A rule that iterates and looks something up in its head (`x contains a.b if some a in …`): where `a.b` is undefined
  OPA leaves that turn out, and regorus fails.

Judged by regorus's syntax tree. It may refuse too much: what it cannot tell to be defined counts as undefined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Tree = Mapping[str, Any]


def list_undefined(path: str, tree: Tree) -> list[str]:
    """Return where the module at `path` rests on what is undefined, with line numbers."""
    values = set(_list_values(tree))
    found = [
        f"{path}:{negation['span']['line']}: negates what it reads of something that may be undefined; name it first"
        for negation in iter_nodes(tree["rules"], "NotExpr")
        if _may_be_undefined(_parts(negation["expr"]), values)
    ]
    found += [
        f"{path}:{rule['Spec']['span']['line']}: looks up in its head what its body, which iterates, did not bind"
        for rule in tree["rules"]
        if "Spec" in rule and _iterates(rule["Spec"]) and _may_be_undefined(_head_parts(rule["Spec"]["head"]), set())
    ]
    return found


def _list_values(tree: Tree) -> Iterator[str]:
    """Yield the names of rules that have a value or none; a set is at least empty."""
    for rule in tree["rules"]:
        reference = rule.get("Spec", {}).get("head", {}).get("Compr", {}).get("refr", {})
        if "Var" in reference:
            yield reference["Var"]["value"]


def _parts(expression: Tree) -> list[Any]:
    """Return what a negated expression reads on the way: all of it, or the keys of a plain look-up."""
    keys: list[Any] = []
    while True:
        if "Var" in expression:
            return keys
        if "RefDot" in expression:
            expression = expression["RefDot"]["refr"]
        elif "RefBrack" in expression:
            keys.append(expression["RefBrack"]["index"])
            expression = expression["RefBrack"]["refr"]
        else:
            return [*keys, expression]


def _head_parts(head: Tree) -> list[Any]:
    if "Set" in head:
        return [head["Set"]["key"]]
    assigned = head.get("Compr", {}).get("assign")
    return [assigned["value"]] if assigned else []


def _iterates(rule: Tree) -> bool:
    return any(
        kind in statement["literal"]
        for body in rule["bodies"]
        for statement in body["query"]["stmts"]
        for kind in ("SomeIn", "SomeVars")
    )


def _may_be_undefined(node: Any, values: set[str]) -> bool:
    """Say whether a look-up, or a rule of `values`, is anywhere in a piece of the tree; a function's name is none."""
    if isinstance(node, list):
        return any(_may_be_undefined(child, values) for child in node)
    if not isinstance(node, dict):
        return False
    if "RefDot" in node or "RefBrack" in node:
        return True
    if "Var" in node:
        return node["Var"]["value"] in values
    if "Call" in node:
        return _may_be_undefined(node["Call"]["params"], values)
    return any(_may_be_undefined(child, values) for child in node.values())


def iter_nodes(node: Any, kind: str) -> Iterator[Tree]:
    """Yield every node of this kind in a syntax tree."""
    if isinstance(node, dict):
        if kind in node:
            yield node[kind]
        for child in node.values():
            yield from iter_nodes(child, kind)
    elif isinstance(node, list):
        for child in node:
            yield from iter_nodes(child, kind)
