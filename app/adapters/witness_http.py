"""A witness reached by HTTP: the client of `add-checkpoint` (ports.WitnessClient; C2SP tlog-witness, FORMATS.md 1.6).

Same size and another root is 422 at the pinned commit and was 409 in v1.0.0: both are understood, the older one as a
409 to a question whose old size was the checkpoint's own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from app.errors import Broken, Rejected, Unavailable
from app.ledger.ports import WitnessConflictError
from app.ledger.witness import MAX_PROOF_HASHES, format_request
from app.tlog.encoding import parse_decimal
from app.tlog.tree import MAX_SIZE

SIZE_TYPE = "text/x.tlog.size"
MAX_ANSWER_BYTES = 65_536  # a hundred cosignatures have 20 kB
MAX_QUOTED_CHARS = 200
CHUNK_BYTES = 4_096


class WitnessDisputeError(Broken):
    """The witness says that our root or our proof is wrong: one of the two has seen another log under this name."""

    code = "witness_dispute"


class WitnessRefusedError(Unavailable):
    """The witness does not know this log or its key, or did not understand us; it must be told, we retry."""

    code = "witness_refused"


class HttpWitness:
    """One witness. Used by one thread at a time, over one kept-alive connection."""

    def __init__(self, name: str, url: str, *, timeout_s: float) -> None:
        """`url`: the submission prefix, https or on a loopback address. Raises Rejected for another."""
        _require_safe_url(url)
        self._name = name
        self._url = url.rstrip("/") + "/add-checkpoint"
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, no .netrc, no other certificates by way of the environment

    @property
    def name(self) -> str:
        """The witness's name in the trust file."""
        return self._name

    def add_checkpoint(self, old_size: int, proof: Sequence[bytes], checkpoint: bytes) -> list[str]:
        """Return the signature lines of the answer, not verified, each without its newline.

        Raises WitnessConflictError, Unavailable or WitnessDisputeError, as ports.WitnessClient says.
        """
        if len(proof) > MAX_PROOF_HASHES:
            raise Unavailable(f"a proof of more than {MAX_PROOF_HASHES} hashes cannot be sent to {self._name}")
        status, content_type, answer = self._post(format_request(old_size, proof, checkpoint))
        if status == HTTPStatus.OK:
            return _parse_lines(answer)
        if status == HTTPStatus.CONFLICT:
            raise self._conflict(old_size, checkpoint, content_type, answer)
        said = f"{self._name} answered {status}: {_quote(answer)}"
        if status == HTTPStatus.UNPROCESSABLE_ENTITY:
            raise WitnessDisputeError(said)
        raise WitnessRefusedError(said)

    def _post(self, body: bytes) -> tuple[int, str, bytes]:
        """Return status, media type and body. The whole answer must be there within the timeout."""
        deadline = time.monotonic() + self._timeout_s
        try:
            with self._session.post(
                self._url,
                data=body,
                headers={"Content-Type": "text/plain; charset=utf-8", "Accept-Encoding": "identity"},
                timeout=self._timeout_s,
                allow_redirects=False,
                stream=True,
            ) as response:
                if "Content-Encoding" in response.headers:
                    raise WitnessRefusedError(f"{self._name} encodes its answer, which nobody asked for")
                content_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
                return response.status_code, content_type, self._read(response, deadline)
        except (requests.RequestException, HTTPError, OSError) as error:
            raise Unavailable(f"{self._name}: {type(error).__name__}", code="witness_unavailable") from error

    def _read(self, response: requests.Response, deadline: float) -> bytes:
        """Return the body, bounded in bytes and in time: each read takes what is there."""
        answer = b""
        while chunk := response.raw.read1(CHUNK_BYTES):
            answer += chunk
            if len(answer) > MAX_ANSWER_BYTES or time.monotonic() > deadline:
                raise Unavailable(f"{self._name} answers too much or too slowly", code="witness_unavailable")
        return answer

    def _conflict(self, old_size: int, checkpoint: bytes, content_type: str, answer: bytes) -> Exception:
        """Return the witness's size as an error; or, as v1.0.0 had it, that it has another root at our size."""
        said = f"{self._name} answered 409 to old size {old_size}: {_quote(answer)}"
        size = _find_size(answer) if content_type == SIZE_TYPE else None
        if size is not None and size != old_size:
            return WitnessConflictError(size)
        if checkpoint.split(b"\n", 2)[1] == str(old_size).encode():
            return WitnessDisputeError(said)
        return WitnessRefusedError(said)


def _find_size(answer: bytes) -> int | None:
    try:
        return parse_decimal(answer.decode("ascii").removesuffix("\n"), MAX_SIZE)
    except (Rejected, UnicodeDecodeError):
        return None


def _parse_lines(answer: bytes) -> list[str]:
    return [line for line in answer.decode(errors="replace").split("\n") if line]


def _quote(answer: bytes) -> str:
    return ascii(answer[:MAX_QUOTED_CHARS].decode(errors="replace"))


def _require_safe_url(url: str) -> None:
    """Raise Rejected unless the URL is https, or http to this very machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise Rejected("a witness's URL that cannot be parsed", code="witness_url") from None
    if not host or parts.username is not None or parts.query or parts.fragment:
        raise Rejected("a witness's URL has a host, and no credentials, query or fragment", code="witness_url")
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)):
        return
    raise Rejected(f"the witness at {host} must be reached by https", code="witness_url")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
