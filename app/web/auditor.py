"""For auditors and anybody: checkpoints, tiles, keys and proofs.

Checkpoint, tiles and keys are public and cacheable; bundles of entries and proofs by entry need a token of the log's
tenant. Every proof can also be computed from the tiles alone, without asking us.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from http import HTTPStatus
from typing import Any

import orjson
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models import Tag

from app.credentials.ports import Scope
from app.errors import Malformed, NotFound, Rejected
from app.ledger.prove import Published
from app.tlog.tile import BundleId, TileId, format_bundle, parse_tile_path, tile_width
from app.web.auth import caller, needs, require_tenant
from app.web.models import (
    ConsistencyOut,
    ConsistencyQuery,
    InclusionOut,
    InclusionQuery,
    KeysOut,
    TenantPath,
    TilePath,
)
from app.wiring import Services

CHECKPOINT_MAX_AGE_S = 1
IMMUTABLE = "public, max-age=31536000, immutable"
PRIVATE_IMMUTABLE = "private, max-age=31536000, immutable"
GZIP_LEVEL = 6
_TAG = Tag(name="log", description="The log itself, as C2SP tlog-tiles, and proofs.")


class Log:
    """The views, over one set of services."""

    def __init__(self, services: Services) -> None:
        """Remember the services."""
        self._services = services

    def checkpoint(self, tenant: str) -> Response:
        """Return the newest checkpoint."""
        published = self._published(tenant)
        return _cacheable(
            published.note, "text/plain; charset=utf-8", f"public, max-age={CHECKPOINT_MAX_AGE_S}, must-revalidate"
        )

    def tile(self, tenant: str, rest: str) -> Response:
        """Return a tile of the published tree."""
        tile = _parse_path(rest)
        if not isinstance(tile, TileId):
            raise NotFound("there is no such tile", code="tile_unknown")
        if tile_width(tile.level, tile.index, self._published(tenant).size) < tile.width:
            raise NotFound("this tile is beyond the published tree", code="tile_beyond_tree")
        data = self._services.store.read_tile(tenant, tile.level, tile.index, tile.width)
        return _cacheable(data, "application/octet-stream", IMMUTABLE)

    def bundle(self, tenant: str, rest: str) -> Response:
        """Return a bundle of entries, gzipped if the client takes it."""
        require_tenant(tenant)
        bundle = _parse_path(f"entries/{rest}")
        if not isinstance(bundle, BundleId):
            raise NotFound("there is no such bundle", code="tile_unknown")
        if tile_width(0, bundle.index, self._published(tenant).size) < bundle.width:
            raise NotFound("this bundle is beyond the published tree", code="tile_beyond_tree")
        start = bundle.index * 256
        data = format_bundle(self._services.store.list_bodies(tenant, start, start + bundle.width))
        zipped = request.accept_encodings.best_match(["gzip"]) is not None
        response = _cacheable(
            gzip.compress(data, GZIP_LEVEL, mtime=0) if zipped else data, "application/octet-stream", PRIVATE_IMMUTABLE
        )
        response.headers["Vary"] = "Accept-Encoding, Authorization"
        if zipped:
            response.headers["Content-Encoding"] = "gzip"
        return response

    def keys(self, tenant: str) -> Response:
        """Return the keys that the log says it has; trust only those that you got from elsewhere."""
        self._published(tenant)
        keys = [
            {"vkey": key.vkey, "added": key.added_at_index, "retired": key.retired_at_index}
            for key in self._services.log_keys(tenant)
        ]
        found = self._services.store.find_tenant(tenant)
        body = {"origin": found.origin if found else tenant, "keys": keys}
        return _cacheable(orjson.dumps(body), "application/json", f"public, max-age={CHECKPOINT_MAX_AGE_S}")

    def inclusion(self, query: InclusionQuery) -> dict[str, Any]:
        """Return an inclusion proof for a leaf, by index or by leaf hash."""
        tenant = caller().tenant
        published = self._published(tenant)
        size = self._size(query.size, published)
        index = self._index(tenant, query)
        hashes = self._services.prover.prove_inclusion(tenant, index, size)
        return {
            "index": index,
            "size": size,
            "leaf_hash": self._services.prover.read_leaf(tenant, index, size).hex(),
            "hashes": [base64.b64encode(item).decode() for item in hashes],
            "checkpoint": published.note.decode(),
        }

    def consistency(self, query: ConsistencyQuery) -> dict[str, Any]:
        """Return a consistency proof between two sizes."""
        tenant = caller().tenant
        published = self._published(tenant)
        size = self._size(query.to_size, published)
        hashes = self._services.prover.prove_consistency(tenant, query.from_size, size)
        return {
            "from": query.from_size,
            "to": size,
            "hashes": [base64.b64encode(item).decode() for item in hashes],
            "checkpoint": published.note.decode(),
        }

    def _published(self, tenant: str) -> Published:
        """Return the newest checkpoint; a log that does not exist looks like one without a checkpoint."""
        return self._services.prover.read_published(tenant)

    def _size(self, asked: int | None, published: Published) -> int:
        if asked is None:
            return published.size
        if asked > published.size:
            raise Rejected(
                f"size {asked} is larger than the published {published.size}",
                code="size_beyond_log",
                pointer="/size",
            )
        return asked

    def _index(self, tenant: str, query: InclusionQuery) -> int:
        if (query.index is None) == (query.leaf_hash is None):
            raise Rejected("give either index or leaf_hash", code="query_invalid", pointer="/index")
        if query.leaf_hash is None:
            return query.index or 0
        index = self._services.store.find_position(tenant, bytes.fromhex(query.leaf_hash))
        if index is None:
            raise NotFound("no published entry has this leaf hash", code="leaf_unknown")
        return index


def _parse_path(rest: str) -> TileId | BundleId:
    try:
        return parse_tile_path(f"tile/{rest}")
    except Malformed as error:
        raise NotFound(f"{error}; see C2SP tlog-tiles for the paths", code="tile_unknown") from error


def _cacheable(data: bytes, content_type: str, cache_control: str) -> Response:
    """Return `data` with a strong ETag, or 304 if the client has it."""
    response = Response(data, content_type=content_type, headers={"Cache-Control": cache_control})
    response.set_etag(hashlib.sha256(data).hexdigest()[:32])
    response.make_conditional(request)
    return response


def create_blueprint(services: Services) -> APIBlueprint:
    """Return the log's public face and the auditors' API."""
    api = APIBlueprint("auditor", __name__, abp_tags=[_TAG])
    log = Log(services)
    token: list[dict[str, list[Any]]] = [{"token": []}]

    @api.get("/<tenant>/checkpoint", responses={"200": {}})
    def read_checkpoint(path: TenantPath) -> Response:
        """Return the newest signed checkpoint of a log (C2SP tlog-checkpoint)."""
        return log.checkpoint(path.tenant)

    @api.get("/<tenant>/tile/entries/<path:rest>", security=token, responses={"200": {}})
    @needs(Scope.ENTRIES_READ)
    def read_bundle(path: TilePath) -> Response:
        """Return up to 256 entries, each after its uint16 length (C2SP tlog-tiles)."""
        return log.bundle(path.tenant, path.rest)

    @api.get("/<tenant>/tile/<path:rest>", responses={"200": {}})
    def read_tile(path: TilePath) -> Response:
        """Return up to 256 hashes of one level (C2SP tlog-tiles)."""
        return log.tile(path.tenant, path.rest)

    @api.get("/<tenant>/keys", responses={"200": KeysOut})
    def read_keys(path: TenantPath) -> Response:
        """Return the log's keys and where each was added and retired."""
        return log.keys(path.tenant)

    @api.get("/v1/proofs/inclusion", security=token, responses={"200": InclusionOut})
    @needs(Scope.ENTRIES_READ)
    def read_inclusion(query: InclusionQuery) -> Response:
        """Return the audit path of an entry."""
        return Response(orjson.dumps(log.inclusion(query)), HTTPStatus.OK, mimetype="application/json")

    @api.get("/v1/proofs/consistency", security=token, responses={"200": ConsistencyOut})
    @needs(Scope.ENTRIES_READ)
    def read_consistency(query: ConsistencyQuery) -> Response:
        """Return the proof that a larger tree extends a smaller one."""
        return Response(orjson.dumps(log.consistency(query)), HTTPStatus.OK, mimetype="application/json")

    return api
