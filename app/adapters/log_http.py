"""A log read from a server by HTTP, as C2SP tlog-tiles says (ledger.verify.LogSource).

Whatever goes wrong on the way is "could not check": an answer that is missing proves nothing about the log. Bundles
need a token, which is sent to this server alone, and never in clear over a network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from app.errors import Malformed, Unavailable
from app.ledger.ports import Head
from app.ledger.verify.source import Bundle, split_bundle
from app.tlog.note import MAX_NOTE_BYTES
from app.tlog.tile import MAX_ENTRY_BYTES, TILE_BYTES, TILE_WIDTH, BundleId, TileId, tile_path, tile_width
from app.tlog.tree import HASH_SIZE

TIMEOUT_S: Final = 15.0
TRIES: Final = 4
BACKOFF_S: Final = 0.5
CHUNK_BYTES: Final = 65_536
MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
MAX_KEYS_BYTES: Final = 1_048_576
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class UrlSource:
    """The log whose tiles are below `url`, for one thread."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """`url`: `https://host/tenant`. Raises Malformed for no HTTP address, or a token over plain HTTP."""
        self._url = url.rstrip("/")
        self._token = token
        parts = urlsplit(self._url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise Malformed("a log's address is https://HOST/TENANT")
        if token and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise Malformed("a token is sent over https only")
        self._session = requests.Session()
        retry = Retry(
            total=TRIES,
            connect=1,
            backoff_factor=BACKOFF_S,
            status_forcelist=(429, 502, 503, 504),
            raise_on_status=False,
        )
        self._session.mount(f"{parts.scheme}://", HTTPAdapter(max_retries=retry))
        self._session.auth = self._authorize  # given as such, so that no .netrc takes its place

    def __reduce__(self) -> tuple[Any, ...]:
        return UrlSource, (self._url, self._token)

    @property
    def name(self) -> str:
        """The address."""
        return self._url

    def reopen(self) -> UrlSource:
        """Return the same source with connections of its own."""
        return UrlSource(self._url, self._token)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def find_checkpoint(self) -> bytes | None:
        """Return the newest checkpoint. A server that has none, or no such log, is "could not check"."""
        return self._get("checkpoint", MAX_NOTE_BYTES)

    def list_checkpoints(self) -> Iterator[tuple[int, bytes]]:
        """Yield nothing: a server shows its newest checkpoint alone."""
        yield from ()

    def list_keys(self) -> tuple[str, ...]:
        """Return the keys that the server says the log has."""
        try:
            keys = json.loads(self._get("keys", MAX_KEYS_BYTES))["keys"]
            return tuple(str(key["vkey"]) for key in keys)
        except (ValueError, LookupError, TypeError):
            return ()

    def find_head(self) -> Head | None:
        """Return None."""
        return None

    def iter_bundles(self, start: int, stop: int, size: int) -> Iterator[Bundle]:
        """Yield the bundles with their tiles, two requests each."""
        for number in range(start, stop):
            width = tile_width(0, number, size)
            data = self._get_wide(BundleId(index=number, width=width), MAX_BUNDLE_BYTES)
            entries = split_bundle(data)
            if entries is None:
                raise Unavailable(f"{self._url}: bundle {number} arrived cut short")
            yield Bundle(number, entries[:width], self.read_tiles(0, number, width))

    def read_tiles(self, level: int, number: int, width: int) -> tuple[bytes, ...]:
        """Return the tile."""
        data = self._get_wide(TileId(level=level, index=number, width=width), TILE_BYTES)
        return (data[: width * HASH_SIZE],)

    def name_tile(self, level: int, number: int, width: int, copy: int) -> str:
        """Return the tile's path."""
        del copy
        return tile_path(TileId(level=level, index=number, width=width))

    def verify_rest(self, start: int, size: int, *, deep: bool) -> None:
        """There is nothing else."""

    def list_unproven(self, *, deep: bool) -> tuple[str, ...]:
        """Return that older checkpoints are not to be had."""
        del deep
        return ("older checkpoints: a server shows its newest alone",)

    def count_pending(self) -> int:
        """Return 0: a server does not say."""
        return 0

    def has_pending(self, entry_id: str) -> bool:
        """Return False: a server does not say by these addresses."""
        del entry_id
        return False

    def _get_wide(self, tile: TileId | BundleId, limit_bytes: int) -> bytes:
        """Return the tile, or the full one that has replaced a partial one."""
        path = tile_path(tile)
        if tile.width == TILE_WIDTH:
            return self._get(path, limit_bytes)
        data = self._find(path, limit_bytes)
        return data if data is not None else self._get(path.partition(".p/")[0], limit_bytes)

    def _get(self, path: str, limit_bytes: int) -> bytes:
        data = self._find(path, limit_bytes)
        if data is None:
            raise Unavailable(f"{self._url}/{path}: not found; either the address is wrong or the server withholds it")
        return data

    def _find(self, path: str, limit_bytes: int) -> bytes | None:
        """Return the answer, decoded, or None for 404."""
        try:
            with self._session.get(
                f"{self._url}/{path}", timeout=TIMEOUT_S, stream=True, allow_redirects=False
            ) as response:
                if response.status_code == HTTPStatus.NOT_FOUND:
                    return None
                self._require_ok(path, response.status_code)
                data = b""
                for chunk in response.iter_content(CHUNK_BYTES):
                    data += chunk
                    if len(data) > limit_bytes:
                        raise Unavailable(f"{self._url}/{path}: longer than {limit_bytes} bytes")
                return data
        except (requests.RequestException, OSError) as error:
            raise Unavailable(f"{self._url}/{path}: {type(error).__name__}") from error

    def _require_ok(self, path: str, status: int) -> None:
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            hint = "the token is not accepted" if self._token else "entries need a token (ASSAY_TOKEN)"
            raise Unavailable(f"{self._url}/{path}: {hint}", code="token_refused")
        if status != HTTPStatus.OK:
            raise Unavailable(f"{self._url}/{path}: the server answered {status}")

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Send the token with requests for entries alone: everything else is public."""
        if self._token and "/tile/entries/" in str(request.url):
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request
