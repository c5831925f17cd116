"""Other people's vectors for the tree and its proofs: transparency-dev/merkle, RFC 6962."""

from __future__ import annotations

import json
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from app.tlog.proof import ProofError, prove_consistency, prove_inclusion, verify_consistency, verify_inclusion
from app.tlog.tree import EMPTY_ROOT, HASH_SIZE, Frontier, leaf_hash, root_of

CASES_PER_FOLDER = 98
# Its two equal roots are the 12 bytes "don't care 2": we refuse what is no hash, so it is run with hashes of them.
PLACEHOLDER = "additional/sizes-are-equal-one-and-proof-is-empty.json"


def _load(folder: Path) -> dict[str, dict[str, Any]]:
    cases = {str(path.relative_to(folder)): json.loads(path.read_bytes()) for path in folder.rglob("*.json")}
    assert len(cases) == CASES_PER_FOLDER
    return cases


def _decode(case: dict[str, Any], *names: str) -> list[bytes]:
    return [b64decode(case[name]) for name in names]


def _is_refused(verify: Any, **arguments: Any) -> bool:
    try:
        verify(**arguments)
    except ProofError:
        return True
    return False


def _refuses_inclusion(case: dict[str, Any]) -> bool:
    leaf, root = _decode(case, "leafHash", "root")
    proof = [b64decode(value) for value in case["proof"] or []]
    return _is_refused(
        verify_inclusion, index=case["leafIdx"], size=case["treeSize"], leaf=leaf, proof=proof, root=root
    )


def _refuses_consistency(case: dict[str, Any], old_root: bytes, new_root: bytes) -> bool:
    return _is_refused(
        verify_consistency,
        old_size=case["size1"],
        new_size=case["size2"],
        old_root=old_root,
        new_root=new_root,
        proof=[b64decode(value) for value in case["proof"] or []],
    )


def test_all_98_inclusion_vectors_get_their_verdict(shared_dir: Path) -> None:
    cases = _load(shared_dir / "vectors/transparency-dev-merkle/inclusion")
    assert [name for name, case in cases.items() if _refuses_inclusion(case) != case["wantErr"]] == []


def test_all_98_consistency_vectors_get_their_verdict(shared_dir: Path) -> None:
    cases = _load(shared_dir / "vectors/transparency-dev-merkle/consistency")
    wrong = []
    for name, case in cases.items():
        roots = _decode(case, "root1", "root2")
        if name == PLACEHOLDER:
            roots = [sha256(root).digest() for root in roots]
        if _refuses_consistency(case, *roots) != case["wantErr"]:
            wrong.append(name)
    assert wrong == []


def test_the_one_vector_whose_roots_are_no_hashes_is_refused_as_it_stands(shared_dir: Path) -> None:
    cases = _load(shared_dir / "vectors/transparency-dev-merkle/consistency")
    accepted = {name: _decode(case, "root1", "root2") for name, case in cases.items() if not case["wantErr"]}
    assert [name for name, roots in accepted.items() if set(map(len, roots)) != {HASH_SIZE}] == [PLACEHOLDER]
    assert _refuses_consistency(cases[PLACEHOLDER], *accepted[PLACEHOLDER])


@pytest.fixture
def reference(shared_dir: Path) -> dict[str, Any]:
    tree = json.loads((shared_dir / "vectors/derived/rfc6962_reference_tree.json").read_bytes())
    assert len(tree["leaf_inputs_hex"]) == 8
    assert len(tree["root_hashes_hex_by_size"]) == 9
    assert isinstance(tree, dict)
    return tree


def test_the_rfc6962_tree_has_its_roots_at_each_size(reference: dict[str, Any]) -> None:
    leaves = [leaf_hash(bytes.fromhex(entry)) for entry in reference["leaf_inputs_hex"]]
    roots = [bytes.fromhex(root) for root in reference["root_hashes_hex_by_size"]]
    assert [leaf.hex() for leaf in leaves] == reference["node_hashes_hex"][0]
    assert [root_of(leaves[:size]) for size in range(9)] == roots
    assert [Frontier().append(leaves[:size]).root() for size in range(9)] == roots
    assert roots[0] == EMPTY_ROOT


def test_the_rfc6962_tree_proves_with_its_own_inner_nodes(reference: dict[str, Any]) -> None:
    rows = [[bytes.fromhex(node) for node in row] for row in reference["node_hashes_hex"]]
    assert prove_inclusion(5, rows[0]) == [rows[0][4], rows[1][3], rows[2][0]]
    assert prove_inclusion(6, rows[0][:7]) == [rows[1][2], rows[2][0]]
    assert prove_consistency(6, rows[0]) == [rows[1][2], rows[1][3], rows[2][0]]
    assert prove_consistency(4, rows[0]) == [rows[2][1]]
