"""The errors of Assay, grouped by what the caller should do.

    AssayError
      Rejected        change the request
        Malformed       it could not be parsed
        Conflict        it contradicts what is already there
        TooLarge        it exceeds a named bound
      Refused         well formed, and not allowed
        Unauthenticated no token, or one that is unknown or expired
        NotFound        absent, or another tenant's: the caller cannot tell which
      Unavailable     retry the same request, after `retry_after_s`
      Broken          an invariant failed; a person must look (details never leave the house)

No status codes here: they live only in `web/problems.py`. `code` is stable API: callers match on it.
"""

from __future__ import annotations


class AssayError(Exception):
    """Base of all errors that Assay raises on purpose."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None, pointer: str | None = None) -> None:
        """Say what happened and what to do; `pointer` is the RFC 6901 pointer of the field at fault."""
        super().__init__(message)
        self.code = code or type(self).code
        self.pointer = pointer


class Rejected(AssayError):
    """The request must change before it can succeed."""

    code = "rejected"


class Malformed(Rejected):
    """The bytes could not be parsed into a value."""

    code = "malformed"


class Conflict(Rejected):
    """The request contradicts what is already there."""

    code = "conflict"


class TooLarge(Rejected):
    """The request exceeds a named bound."""

    code = "too_large"


class Refused(AssayError):
    """The request is well formed, and not allowed."""

    code = "refused"


class Unauthenticated(Refused):
    """No token, or one that is unknown, revoked or expired."""

    code = "unauthenticated"


class NotFound(Refused):
    """Absent, or another tenant's: the caller cannot tell which."""

    code = "not_found"


class Unavailable(AssayError):
    """The same request may succeed later."""

    code = "unavailable"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        pointer: str | None = None,
        retry_after_s: int = 1,
    ) -> None:
        """`retry_after_s`: whole seconds, at least 1."""
        super().__init__(message, code=code, pointer=pointer)
        self.retry_after_s = retry_after_s


class Broken(AssayError):
    """An invariant failed; a person must look."""

    code = "broken"
