"""The portable dialect of Rego: what policies may use, so that every engine gives the same bytes, now and years later.

Integers, constants and the builtins below, of which OPA's own cases pass on the embedded engine (docs/adr/0013). No
network, clock, randomness, environment, cryptography or metadata: the time is `input.now_ms`, and digests come as
input. Nothing whose result depends on a Unicode version or on how a number is written, so no case mapping and no
formatting outside of tests. No function that may call itself, which OPA refuses and regorus does not. No import under
another name, which would hide what is called. None of the few forms that the two read differently: among them a package
in two modules, of which regorus loses rules when the package is imported, and what rests on the undefined
(`rego_undefined`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from app.adapters.rego import read_syntax
from app.adapters.rego_undefined import iter_nodes, list_undefined
from app.policy.bundle import TEST_SUFFIX, Bundle

BUILTINS: Final = frozenset(
    {
        *("abs", "count", "max", "min", "numbers.range", "product", "sort", "sum"),
        *("array.concat", "array.reverse", "array.slice"),
        *("intersection", "union"),
        *("object.filter", "object.get", "object.keys", "object.remove", "object.subset", "object.union"),
        *("is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string", "type_name"),
        *("concat", "contains", "endswith", "indexof", "regex.match", "replace", "split", "startswith", "substring"),
        *("trim", "trim_left", "trim_prefix", "trim_right", "trim_space", "trim_suffix"),
    }
)
"""What policies may call besides their own functions."""
TEST_BUILTINS: Final = BUILTINS | {"json.marshal", "lower", "sprintf", "upper", "walk"}

IMPORTED: Final = frozenset({"data", "input"})
"""What imports begin with; `rego.v1` says what is so anyway."""

Tree = Mapping[str, Any]


def list_offences(bundle: Bundle) -> list[str]:
    """Return what the bundle's modules use outside the dialect, in words. Raises Malformed if one does not parse."""
    return list_in_trees(read_syntax(bundle))


def list_in_trees(trees: Mapping[str, Tree]) -> list[str]:
    """Return what modules use outside the dialect, given regorus's syntax trees of them by path."""
    calls = {path: list(_list_calls(tree)) for path, tree in trees.items()}
    ours = {function for pairs in calls.values() for function, _ in pairs if function}
    found = []
    for path, tree in trees.items():
        allowed = ours | (TEST_BUILTINS if path.endswith(TEST_SUFFIX) else BUILTINS)
        found += [f"{path}: calls {name}" for _, names in calls[path] for name in names if name not in allowed]
        found += [f"{path}: has the number {number}" for number in _list_numbers(tree) if not isinstance(number, int)]
        found += [f"{path}: {form}" for form in _list_forms(tree)]
        found += list_undefined(path, tree)
    packages = [_name(tree["package"]["refr"]) for path, tree in trees.items() if not path.endswith(TEST_SUFFIX)]
    found += [f"the package {name} is in two modules" for name in packages if packages.count(name) > 1]
    graph: dict[str, set[str]] = {}
    for function, names in (pair for pairs in calls.values() for pair in pairs):
        graph.setdefault(function, set()).update(names)
    found += [f"{function} may call itself" for function in ours if function in _list_reached(graph, function)]
    return sorted(set(found))


def _list_forms(tree: Tree) -> Iterator[str]:
    """Yield the forms of a module that regorus reads otherwise than OPA, or that hide what is called."""
    for item in tree["imports"]:
        name = _name(item["refr"])
        if item.get("as"):
            yield "renames an import"
        if name.partition(".")[0] not in IMPORTED and name != "rego.v1":
            yield f"imports {name}"
    if any(member["key"] for member in iter_nodes(tree, "Membership")):
        yield "looks for a key and a value with `in`"
    if any("?" in _name(head["refr"]) for head in iter_nodes(tree["rules"], "Set") if "refr" in head):
        yield "adds with `contains` below a name that varies"


def _list_calls(tree: Tree) -> Iterator[tuple[str, list[str]]]:
    """Yield each function of a module, and the empty name for each rule, with what it calls; ours by full names."""
    package = f"data.{_name(tree['package']['refr'])}"
    imports = [_name(item["refr"]) for item in tree["imports"]]
    aliases = {name.rpartition(".")[2]: name for name in imports}
    functions = [head["refr"] for rule in tree["rules"] if (head := _find_function(rule))]
    local = {_name(reference) for reference in functions}
    for rule in tree["rules"]:
        head = _find_function(rule)
        names = []
        for call in iter_nodes(rule, "Call"):
            name = _name(call["fcn"])
            first, dot, rest = name.partition(".")
            names.append(f"{package}.{name}" if name in local else f"{aliases.get(first, first)}{dot}{rest}")
        yield f"{package}.{_name(head['refr'])}" if head else "", names


def _find_function(rule: Tree) -> Tree | None:
    found: Tree | None = rule.get("Spec", {}).get("head", {}).get("Func")
    return found


def _list_numbers(tree: Tree) -> list[object]:
    return [number["value"] for number in iter_nodes(tree, "Number")]


def _list_reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """Return what can be reached from `start` by one call or more."""
    todo, reached = [start], set[str]()
    while todo:
        new = graph.get(todo.pop(), set()) - reached
        reached |= new
        todo.extend(new)
    return reached


def _name(reference: Tree) -> str:
    """Return the dotted name of a reference, `?` for a part that is no constant."""
    if "Var" in reference:
        return str(reference["Var"]["value"])
    if "RefDot" in reference:
        return f"{_name(reference['RefDot']['refr'])}.{reference['RefDot']['field'][1]}"
    if "RefBrack" in reference and "String" in (index := reference["RefBrack"]["index"]):
        return f"{_name(reference['RefBrack']['refr'])}.{index['String']['value']}"
    return "?"
