"""The log over HTTP: proofs and tiles that exist and those that do not, caching, keys."""

from __future__ import annotations

import base64
import gzip

import pytest
from pydantic.json_schema import GenerateJsonSchema

from app.tlog.checkpoint import parse_checkpoint
from app.tlog.note import parse_note
from app.tlog.proof import verify_consistency, verify_inclusion
from app.tlog.tile import parse_bundle
from app.tlog.tree import leaf_hash
from tests.parts.web import APPROVAL, WebPart
from tests.web.problem import check_headers, read_problem

ENTRIES = 300


@pytest.fixture(scope="module")
def size(web: WebPart) -> int:
    """Fill the log over one tile; return its size, which stays as it is."""
    lines = [b'{"action":"approval.given","data":{"what":"line %d","verdict":"approved"}}' % n for n in range(ENTRIES)]
    web.post("/v1/entries:batch", data=b"\n".join(lines), content_type="application/x-ndjson")
    index: int = web.append(APPROVAL).json["index"]
    return index + 1


def _read_root(web: WebPart) -> bytes:
    return parse_checkpoint(parse_note(web.get("/acme/checkpoint").data).text).root


def _decode(hashes: list[str]) -> list[bytes]:
    return [base64.b64decode(each) for each in hashes]


def test_a_proof_verifies_against_the_checkpoint_it_comes_with(web: WebPart, size: int) -> None:
    for index in (0, 1, 255, 256, size - 1):
        body = web.get(f"/v1/proofs/inclusion?index={index}").json
        checkpoint = parse_checkpoint(parse_note(body["checkpoint"].encode()).text)
        leaf = bytes.fromhex(body["leaf_hash"])
        verify_inclusion(
            index=index, size=checkpoint.size, leaf=leaf, proof=_decode(body["hashes"]), root=checkpoint.root
        )
        assert web.get(f"/v1/proofs/inclusion?leaf_hash={body['leaf_hash']}").json == body


def test_a_consistency_proof_verifies_between_two_sizes(web: WebPart, size: int) -> None:
    same = web.get(f"/v1/proofs/consistency?from={size}").json
    assert (same["from"], same["to"], same["hashes"]) == (size, size, [])
    assert web.get("/v1/proofs/consistency?from=0").json["hashes"] == []
    proof = _decode(web.get(f"/v1/proofs/consistency?from=256&to={size}").json["hashes"])
    root_of_256 = web.get("/acme/tile/1/000.p/1").data
    verify_consistency(old_size=256, new_size=size, old_root=root_of_256, new_root=_read_root(web), proof=proof)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("inclusion?index={size}", 422, "index_out_of_range"),
        ("inclusion?index=9223372036854775807", 422, "index_out_of_range"),
        ("inclusion?index=9223372036854775808", 422, "request_invalid"),
        ("inclusion?index=-1", 422, "request_invalid"),
        ("inclusion?index=1e3", 422, "request_invalid"),
        ("inclusion?index=5&size=5", 422, "index_out_of_range"),
        ("inclusion?index=0&size={more}", 422, "size_beyond_log"),
        ("inclusion?index=0&size=0", 422, "request_invalid"),
        ("inclusion", 422, "query_invalid"),
        ("inclusion?index=0&leaf_hash=" + "0" * 64, 422, "query_invalid"),
        ("inclusion?leaf_hash=" + "0" * 64, 404, "leaf_unknown"),
        ("inclusion?leaf_hash=" + "A" * 64, 422, "request_invalid"),
        ("inclusion?index=0&unknown=1", 422, "request_invalid"),
        ("consistency", 422, "request_invalid"),
        ("consistency?from=5&to=4", 422, "size_out_of_range"),
        ("consistency?from={more}", 422, "size_out_of_range"),
        ("consistency?from=1&to={more}", 422, "size_beyond_log"),
        ("consistency?from=-1", 422, "request_invalid"),
    ],
)
def test_a_proof_of_what_is_not_there_is_refused(web: WebPart, size: int, query: str, status: int, code: str) -> None:
    read_problem(web.get("/v1/proofs/" + query.format(size=size, more=size + 1)), status, code)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("1/001", "tile_beyond_tree"),
        ("0/001", "tile_beyond_tree"),
        ("0/002", "tile_beyond_tree"),
        ("0/001.p/255", "tile_beyond_tree"),
        ("1/000.p/2", "tile_beyond_tree"),
        ("2/000.p/1", "tile_beyond_tree"),
        ("63/000", "tile_beyond_tree"),
        ("0/x999/x999/999", "tile_beyond_tree"),
        ("64/000", "tile_unknown"),
        ("00/000", "tile_unknown"),
        ("0/0", "tile_unknown"),
        ("0/0000", "tile_unknown"),
        ("0/x000/001", "tile_unknown"),
        ("0/000.p/0", "tile_unknown"),
        ("0/000.p/00", "tile_unknown"),
        ("0/000.p/256", "tile_unknown"),
        ("0/000.p/01", "tile_unknown"),
        ("0/-01", "tile_unknown"),
        ("0/000/", "tile_unknown"),
        ("0/000.p/", "tile_unknown"),
        ("0/\u0660\u0660\u0660", "tile_unknown"),
        ("entries", "tile_unknown"),
        ("entries/0", "tile_unknown"),
        ("entries/001", "tile_beyond_tree"),
        ("entries/000.p/0", "tile_unknown"),
        ("0//000", None),
    ],
)
def test_a_tile_has_one_spelling_and_is_published_or_absent(
    web: WebPart, size: int, path: str, code: str | None
) -> None:
    assert size < 512
    answer = web.get(f"/acme/tile/{path}")
    if code is None:  # the framework merges the slashes first; the tile there is the canonical one
        assert answer.status_code in {308, 404}
    else:
        read_problem(answer, 404, code)


def test_tiles_and_bundles_are_immutable_and_bundles_alone_are_zipped(web: WebPart, size: int) -> None:
    tile = web.get("/acme/tile/0/000", headers={"Accept-Encoding": "gzip"}, token=None)
    assert "Content-Encoding" not in tile.headers
    assert tile.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert len(tile.data) == 8192
    plain = web.get("/acme/tile/entries/000")
    zipped = web.get("/acme/tile/entries/000", headers={"Accept-Encoding": "br, gzip;q=0.5"})
    refused = web.get("/acme/tile/entries/000", headers={"Accept-Encoding": "gzip;q=0"})
    assert "Content-Encoding" not in plain.headers
    assert "Content-Encoding" not in refused.headers
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(zipped.data) == plain.data == refused.data
    assert zipped.headers["ETag"] != plain.headers["ETag"]
    for each in (plain, zipped):
        assert each.headers["Cache-Control"] == "private, max-age=31536000, immutable"
        assert set(each.headers["Vary"].split(", ")) == {"Accept-Encoding", "Authorization"}
    hashes = b"".join(leaf_hash(entry) for entry in parse_bundle(plain.data, 256))
    assert hashes == tile.data


@pytest.mark.parametrize("path", ["checkpoint", "tile/0/000", "tile/0/001.p/1", "tile/entries/000", "keys"])
def test_what_a_client_has_is_not_sent_again(web: WebPart, size: int, path: str) -> None:
    whole = web.get(f"/acme/{path}")
    tag = whole.headers["ETag"]
    assert tag.startswith('"')
    for given in (tag, f'"x", {tag}', f"W/{tag}", "*"):
        same = web.get(f"/acme/{path}", headers={"If-None-Match": given})
        assert (same.status_code, same.data) == (304, b"")
        assert same.headers["ETag"] == tag
        assert same.headers["Cache-Control"] == whole.headers["Cache-Control"]
        check_headers(same)
    assert web.get(f"/acme/{path}", headers={"If-None-Match": '"another"'}).status_code == 200


def test_a_checkpoint_is_kept_for_a_moment_only(web: WebPart, size: int) -> None:
    answer = web.get("/acme/checkpoint", token=None)
    assert answer.content_type == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "public, max-age=1, must-revalidate"


def test_the_keys_are_those_that_the_log_says(web: WebPart, size: int) -> None:
    body = web.get("/acme/keys", token=None).json
    assert body == {
        "origin": "assay.localhost/acme",
        "keys": [{"vkey": web.vkeys["acme"], "added": 0, "retired": None}],
    }


@pytest.mark.parametrize(
    ("query", "name"), [("proofs/inclusion?index=0&index=1", "index"), ("entries?ref=a&limit=1&ref=a", "ref")]
)
def test_a_parameter_given_twice_is_refused_and_named(web: WebPart, query: str, name: str) -> None:
    problem = read_problem(web.get(f"/v1/{query}"), 400, "parameter_repeated")
    assert [field["pointer"] for field in problem["errors"]] == [f"/{name}"]


def test_a_query_is_read_without_describing_its_model_again(
    web: WebPart, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/v1/proofs/inclusion?index={size - 1}"
    first = web.get(path)

    def describe(*_: object, **__: object) -> None:
        raise AssertionError("this takes longer than all the rest of the request")

    monkeypatch.setattr(GenerateJsonSchema, "generate", describe)
    again = web.get(path)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json["hashes"] == first.json["hashes"]
