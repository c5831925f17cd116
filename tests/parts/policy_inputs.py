"""Questions to any bundle, made from the bundle itself: the inputs of its own tests, and changes of them.

The inputs are those that the Rego tests really ask with, caught while they run. A change puts something else at a place
that the rules read: a constant of the policies or their data, another type, an edge, or nothing.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import regorus
from hypothesis import strategies as st

from app.adapters.rego import read_syntax
from app.policy.bundle import TEST_SUFFIX, Bundle
from app.policy.query import Query

ENTRYPOINT = "decide"
MAX_DATA_CONSTANTS = 2_000
MAX_CHANGES = 2
EDGES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**53 - 1, -(2**53) + 1, 10_000, 1_000_000),
    *("", " ", "a", "DE", "US", "EUR", "2026-06-30", "Zoltán 名", [], {}, [1], ["a"], {"a": 1}, [None]),
)
CAUGHT = "caught_for_parity"
RULE_HEAD = re.compile(rf"^(default )?{ENTRYPOINT}\b", re.MULTILINE)
Path = tuple[str, ...]


def list_entrypoints(bundle: Bundle) -> list[str]:
    """Return `package/decide` of every module that has such a rule, tests left out."""
    return sorted(
        "/".join([*_reference(tree["package"]["refr"]), ENTRYPOINT])
        for path, tree in read_syntax(bundle).items()
        if not path.endswith(TEST_SUFFIX) and RULE_HEAD.search(bundle.modules[path])
    )


def questions(policies: Bundle, with_tests: Bundle) -> st.SearchStrategy[Query]:
    """Return a strategy of questions to the entrypoints of `policies`; `with_tests` is the same and its tests."""
    trees = read_syntax(with_tests)
    paths = sorted({path for tree in trees.values() for path in _list_input_paths(tree)})
    literals = dict.fromkeys(value for tree in trees.values() for value in _list_literals(tree))
    data = dict.fromkeys(itertools.islice(_list_values(dict(policies.data)), MAX_DATA_CONSTANTS))
    constants = st.sampled_from([*EDGES, *literals, *data])
    changes = st.lists(st.tuples(st.sampled_from(paths), constants), max_size=MAX_CHANGES)
    removed = st.lists(st.sampled_from(paths), max_size=1)
    caught = catch_inputs(with_tests)
    seeds = [Query(entrypoint=entrypoint, document={}) for entrypoint in list_entrypoints(policies)] + caught
    return st.builds(_change, st.sampled_from(seeds), changes, removed)


def catch_inputs(bundle: Bundle) -> list[Query]:
    """Return every question that the bundle's own tests ask, each once."""
    found: dict[str, Query] = {}

    def catch(entrypoint: str, document: Any) -> bool:
        if isinstance(document, dict):
            found[entrypoint + json.dumps(document, sort_keys=True)] = Query(entrypoint=entrypoint, document=document)
        return True

    engine = regorus.Engine()
    engine.set_gather_prints(True)
    engine.add_extension(CAUGHT, 2, catch)
    trees = read_syntax(bundle)
    for path, text in bundle.modules.items():
        package = "/".join(_reference(trees[path]["package"]["refr"]))
        catching = (
            f'\n{ENTRYPOINT} := answer if {{\n\t{CAUGHT}("{package}/{ENTRYPOINT}", input)\n\tanswer := renamed\n}}\n'
        )
        tested = RULE_HEAD.search(text) and not path.endswith(TEST_SUFFIX)
        engine.add_policy(path, RULE_HEAD.sub(r"\1renamed", text) + catching if tested else text)
    engine.add_data_json(json.dumps({"data": dict(bundle.data)}))
    for path, tree in trees.items():
        if path.endswith(TEST_SUFFIX):
            engine.eval_query_as_json(".".join(["data", *_reference(tree["package"]["refr"])]))
    return list(found.values())


def _change(seed: Query, changes: list[tuple[Path, Any]], removed: list[Path]) -> Query:
    document: dict[str, Any] = copy.deepcopy(dict(seed.document))
    for path, value in changes:
        _put(document, path, copy.deepcopy(value))
    for path in removed:
        _remove(document, path)
    return Query(entrypoint=seed.entrypoint, document=document)


def _put(document: dict[str, Any], path: Path, value: Any) -> None:
    for key in path[:-1]:
        child = document.get(key)
        if not isinstance(child, dict):
            child = document[key] = {}
        document = child
    document[path[-1]] = value


def _remove(document: dict[str, Any], path: Path) -> None:
    for key in path[:-1]:
        child = document.get(key)
        if not isinstance(child, dict):
            return
        document = child
    document.pop(path[-1], None)


def _list_input_paths(node: Any) -> Iterator[Path]:
    """Yield what stands after `input` in every constant reference."""
    if isinstance(node, dict):
        if "RefDot" in node or "RefBrack" in node:
            parts = _reference(node)
            if parts[0] == "input" and len(parts) > 1 and "?" not in parts:
                yield tuple(parts[1:])
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _list_input_paths(child)


def _list_literals(node: Any) -> Iterator[Any]:
    """Yield the texts and numbers that are written out in a module."""
    if isinstance(node, dict):
        for kind in ("String", "RawString", "Number"):
            if kind in node:
                yield node[kind]["value"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _list_literals(child)


def _list_values(data: Any) -> Iterator[Any]:
    """Yield the texts, numbers and keys of the bundle's data."""
    if isinstance(data, dict):
        yield from data
        data = list(data.values())
    if isinstance(data, list):
        for child in data:
            yield from _list_values(child)
    elif data is not None:
        yield data


def _reference(node: Mapping[str, Any]) -> list[str]:
    if "Var" in node:
        return [str(node["Var"]["value"])]
    if "RefDot" in node:
        return [*_reference(node["RefDot"]["refr"]), str(node["RefDot"]["field"][1])]
    if "RefBrack" in node and "String" in (index := node["RefBrack"]["index"]):
        return [*_reference(node["RefBrack"]["refr"]), str(index["String"]["value"])]
    return ["?"]
