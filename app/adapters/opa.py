"""`PolicyEngine` over an OPA server, by a unix socket or a loopback port, kept alive (ADR 13).

The server holds one revision of one bundle, and says which with every answer: an answer by another is refused. So is
whatever is not a whole answer in time: OPA says 200 without a `result` for undefined, and stops evaluating when we
hang up. `opa-python-client` is the client; what it lacks for a decision is added here: unix sockets, a deadline for the
whole call instead of one per read, a bound on the answer, our decision's id, no retry, and OPA's query parameters.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import requests
from opa_client.opa import OpaClient
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError

from app.errors import Malformed
from app.policy.decision import EngineRef
from app.policy.ports import EngineFailed
from app.policy.query import Query
from app.policy.question import MAX_ANSWER_BYTES, format_input, parse_object, require_object, verify_question

BUNDLE: Final = "assay"
"""The bundle's name in the server's configuration."""
MIN_VERSION: Final = (1, 22, 2)
CONNECTIONS: Final = 32
"""Kept open per process; more threads than these open one for a call."""
ASKERS: Final = 8
"""Threads that ask for many answers at once: a server that is slow for one question is asked the others meanwhile."""

DECISION_HEADER: Final = "Assay-Decision"
"""Carries our decision's id; named in OPA's `decision_logs.request_context.http.headers`, its log has it."""

_PARAMETERS: Final = urlencode({"provenance": "true", "strict-builtin-errors": "true"})
_MAX_BODY_BYTES: Final = MAX_ANSWER_BYTES + 16 * 1024
_CHUNK_BYTES: Final = 16 * 1024
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)", re.ASCII)
_PLACE: Final = re.compile(r"/?([a-z0-9_./]+)", re.ASCII)


class OpaEngine:
    """`PolicyEngine` by an OPA server. See `app.policy.ports` for the contract."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """Ask nothing yet. `url`: `unix:///path` or `http://127.0.0.1:port`; raises Malformed for another."""
        self._client = _open_client(url, timeout_s)
        self._askers = ThreadPoolExecutor(ASKERS, thread_name_prefix="opa")
        self._version = "unknown"

    @property
    def ref(self) -> EngineRef:
        """OPA and its version, as its last answer said."""
        return EngineRef(name="opa", version=self._version)

    def evaluate(
        self, entrypoint: str, document: Mapping[str, Any], *, bundle_digest: str, decision_id: str | None = None
    ) -> Mapping[str, Any]:
        """Return the object of the rule `entrypoint`; see the port."""
        question = Query(entrypoint=entrypoint, document=document, decision_id=decision_id)
        return self._ask(question, bundle_digest, timeout_s=self._client.timeout)

    def _ask(self, question: Query, bundle_digest: str, *, timeout_s: float) -> Mapping[str, Any]:
        verify_question(question.entrypoint, bundle_digest)
        path, body = f"data/{question.entrypoint}?{_PARAMETERS}", b'{"input":%b}' % format_input(question.document)
        status, body = self._client.ask(path, body, decision_id=question.decision_id, timeout_s=timeout_s)
        if status != HTTPStatus.OK:
            raise EngineFailed(f"OPA answered {status}: failed at {_find_place(body)}", failure="error")
        answer = parse_object(body, limit_bytes=_MAX_BODY_BYTES)
        self._verify_provenance(answer.get("provenance"), bundle_digest)
        if "result" not in answer:
            raise EngineFailed("the rule is undefined for this input", failure="undefined")
        return require_object(answer["result"])

    def evaluate_all(
        self, questions: Sequence[Query], *, bundle_digest: str
    ) -> Sequence[Mapping[str, Any] | EngineFailed]:
        """Return the answers; see the port. A few threads ask, each on a connection of its own.

        All of them have the time of one, so that a server that does not answer holds nobody up for longer.
        """
        deadline_s = time.monotonic() + self._client.timeout

        def ask(question: Query) -> Mapping[str, Any] | EngineFailed:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return EngineFailed("no time was left to ask", failure="timeout")
            try:
                return self._ask(question, bundle_digest, timeout_s=left_s)
            except EngineFailed as error:
                return error

        return list(self._askers.map(ask, questions))

    def find_problem(self) -> str | None:
        """Return why the server cannot decide, or None: it is away, or has no bundle."""
        try:
            status, _ = self._client.ask_health()
        except EngineFailed as error:
            return f"OPA: {error}"
        return None if status == HTTPStatus.OK else "OPA runs and has no bundle yet"

    def close(self) -> None:
        """Close the connections."""
        self._askers.shutdown()
        self._client.close_connection()

    def _verify_provenance(self, provenance: Any, bundle_digest: str) -> None:
        """Raise EngineFailed unless a new enough OPA answered, by this bundle."""
        try:
            version, revision = provenance["version"], provenance["bundles"][BUNDLE]["revision"]
        except (TypeError, KeyError):
            raise EngineFailed(f"OPA names no bundle {BUNDLE!r} that it answered by", failure="wrong_bundle") from None
        found = _VERSION.fullmatch(version) if isinstance(version, str) else None
        if found is None or tuple(map(int, found.groups())) < MIN_VERSION:
            raise EngineFailed(f"OPA is older than {'.'.join(map(str, MIN_VERSION))}", failure="error")
        self._version = version
        if revision != bundle_digest:
            raise EngineFailed("OPA has another bundle than the one asked for", failure="wrong_bundle")


class _DecisionClient(OpaClient):  # type: ignore[misc]  # untyped
    """The client, for decisions: used by many threads, and its root is the server's `/v1`."""

    def __init__(self, *, socket_path: str | None = None, **options: Any) -> None:
        self._socket_path = socket_path
        super().__init__(**options)

    def _init_session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False  # no proxy between us and our own sidecar
        path = self._socket_path
        session.mount("http://", _UnixAdapter(path) if path else HTTPAdapter(pool_maxsize=CONNECTIONS))
        return session

    def ask(self, path: str, body: bytes, *, decision_id: str | None, timeout_s: float) -> tuple[int, bytes]:
        """Post JSON; return status and body. Raises EngineFailed if they are not there in time.

        OPA makes an id of its own for each decision; its decision log can hold ours beside it (`DECISION_HEADER`).
        """
        headers = {} if decision_id is None else {DECISION_HEADER: decision_id}
        return self._call("POST", f"{self.root_url}/{path}", body, headers, timeout_s=timeout_s)

    def ask_health(self) -> tuple[int, bytes]:
        """Ask whether the server has its bundles. Raises EngineFailed if it does not answer."""
        url = f"{self.schema}{self.host}:{self.port}/health?bundles=true"
        return self._call("GET", url, None, {}, timeout_s=self.timeout)

    def _call(
        self, method: str, url: str, body: bytes | None, more: Mapping[str, str], *, timeout_s: float
    ) -> tuple[int, bytes]:
        deadline_s = time.monotonic() + timeout_s
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **more}
        try:
            with self._session.request(
                method, url, data=body, headers=headers, timeout=timeout_s, allow_redirects=False, stream=True
            ) as response:
                return response.status_code, _read(response, deadline_s)
        except (requests.Timeout, TimeoutError):
            raise EngineFailed(f"no answer in {timeout_s:.3g} s", failure="timeout") from None
        except (requests.RequestException, HTTPError, OSError) as error:
            raise EngineFailed(f"is not reachable: {type(error).__name__}", failure="unreachable") from None


def _read(response: requests.Response, deadline_s: float) -> bytes:
    """Return the body, bounded in bytes and in time: each read takes what is there."""
    body = b""
    while chunk := response.raw.read1(_CHUNK_BYTES):
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise EngineFailed(f"the answer has over {_MAX_BODY_BYTES:,} bytes", failure="answer_refused")
        if time.monotonic() > deadline_s:
            raise TimeoutError
    return body


class _UnixConnection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__("localhost", **options)
        self._path = path

    def _new_conn(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self.timeout)
            connection.connect(self._path)
        except BaseException:
            connection.close()
            raise
        return connection


class _UnixPool(HTTPConnectionPool):
    """Connections to one unix socket."""

    def __init__(self, path: str, *, size: int) -> None:
        super().__init__("localhost", maxsize=size)
        self._path = path

    def _new_conn(self) -> _UnixConnection:
        return _UnixConnection(self._path, timeout=self.timeout.connect_timeout)


class _UnixAdapter(HTTPAdapter):
    """What `requests` sends all its requests through: one unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._pool = _UnixPool(path, size=CONNECTIONS)

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()


def _open_client(url: str, timeout_s: float) -> _DecisionClient:
    parts = urlsplit(url)
    if parts.scheme == "unix" and parts.path.strip("/") and not parts.netloc:
        return _DecisionClient(socket_path=parts.path, timeout=timeout_s)
    bare = not (parts.path.strip("/") or parts.query or parts.username)
    if parts.scheme != "http" or parts.hostname not in _LOOPBACK or not parts.port or not bare:
        raise Malformed(
            "OPA is at unix:///path or http://127.0.0.1:port; it reads people's data, so it runs beside us",
            code="settings_invalid",
        )
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return _DecisionClient(host=host, port=parts.port, timeout=timeout_s)


def _find_place(body: bytes) -> str:
    """Return where in the policy an error of OPA's is; its words may quote the input and are dropped."""
    try:
        location = parse_object(body, limit_bytes=_MAX_BODY_BYTES)["errors"][0]["location"]
        found = _PLACE.fullmatch(location["file"])
        place = f"{found[1]}:{int(location['row'])}:{int(location['col'])}" if found else None
    except (EngineFailed, LookupError, TypeError, ValueError):
        place = None
    return place or "an unknown place"
