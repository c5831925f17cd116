"""The spellings that all C2SP text formats share: one value, one spelling, anything else is refused.

Base64 is RFC 4648 section 4, padded, without stray bits; decimals have no sign and no leading zero.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

from app.errors import Malformed, TooLarge

MAX_DECIMAL_DIGITS = 20  # of 2**64 - 1
FIRST_PRINTABLE = " "
_CONTROLS = bytes(code for code in range(ord(FIRST_PRINTABLE)) if code != ord("\n"))  # in UTF-8, as in ASCII


def parse_base64(text: str) -> bytes:
    """Return the bytes of canonical base64; raise `Malformed` for any other spelling."""
    try:
        data = a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise Malformed("not base64") from error
    if format_base64(data) != text:
        raise Malformed("base64 that is not canonical")
    return data


def format_base64(data: bytes) -> str:
    """Return the padded base64 of `data`."""
    return b2a_base64(data, newline=False).decode()


def parse_decimal(text: str, maximum: int) -> int:
    """Return the integer `0 <= n <= maximum`; raise `Malformed` for a sign, a leading zero or a non-digit."""
    digits = text.isascii() and text.isdigit() and len(text) <= MAX_DECIMAL_DIGITS
    if not digits or (text[0] == "0" and text != "0") or int(text) > maximum:
        raise Malformed(f"not a decimal of at most {maximum} without leading zeros")
    return int(text)


def parse_text(data: bytes, max_bytes: int) -> str:
    """Return `data` as text; raise unless it is UTF-8 of at most `max_bytes` with no control but newline."""
    if len(data) > max_bytes:
        raise TooLarge(f"longer than {max_bytes} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Malformed("not UTF-8") from error
    if len(data.translate(None, delete=_CONTROLS)) < len(data):
        raise Malformed("a control character")
    return text


def require_line(text: str, max_bytes: int, what: str) -> None:
    """Raise unless `text` can be one line of a note: not empty, UTF-8, bounded, no control character."""
    if not text or min(text) < FIRST_PRINTABLE:
        raise Malformed(f"{what} is empty or has a control character")
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise Malformed(f"{what} is not Unicode text") from error
    if len(encoded) > max_bytes:
        raise TooLarge(f"{what} is longer than {max_bytes} bytes")
