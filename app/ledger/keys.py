"""The life of a log's keys, as told by the log's own entries (issue 2, section 3).

`key.added` at index i: the key may sign checkpoints of size i + 1 and more, those that contain the entry. The first
entry of a log adds its first key. `key.retired` at index j: the key may still sign size j + 1, the smallest tree
that contains the entry, and nothing larger.

    size          …  i      i+1    …  j      j+1    j+2    …
    old key       …  signs  signs     signs  signs  no
    new key       …  no     signs     signs  signs  signs  …

Only sizes are judged, never batches: when a checkpoint first contains `key.retired` together with later entries, the
old key's line on it counts for nothing and the new key's must do. So that whoever knows only the old key can follow,
a key is retired only after a checkpoint with its successor's `key.added` was published (`check_retirement`): that
one is signed by both, at a size at which both may sign.

A line by a key that may not sign that size is passed over, as a stranger's would be: it neither helps nor harms.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from app.errors import Conflict, Malformed, Refused
from app.tlog.note import ED25519, SignatureError, VerifierKey, parse_vkey

KEY_ADDED = "key.added"
KEY_RETIRED = "key.retired"
LOG_FROZEN = "log.frozen"
KEY_ACTIONS = frozenset({KEY_ADDED, KEY_RETIRED, LOG_FROZEN})
MAX_KEYS = 64  # that a log has in all its life


class KeyHistoryError(Refused):
    """A key entry that this log cannot have."""

    code = "key_history"


class KeyNotValidError(SignatureError):
    """Signed, but by no key that may sign a checkpoint of this size."""

    code = "key_not_valid"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEntry:
    """An entry about keys: one of `KEY_ACTIONS`, its index, and its vkey (None in `log.frozen`)."""

    index: int
    action: str
    vkey: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLife:
    """A key, and the indexes of the entries that added and retired it."""

    key: VerifierKey
    vkey: str
    added_at_index: int
    retired_at_index: int | None = None

    def may_sign(self, size: int) -> bool:
        """Say whether the key may sign a checkpoint of this size (see the module)."""
        last = self.retired_at_index
        return self.added_at_index < size and (last is None or size <= last + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHistory:
    """All keys that the log `origin` ever had, in the order in which they were added."""

    origin: str
    lives: tuple[KeyLife, ...] = ()
    last_index: int = -1
    frozen_at_index: int | None = None

    def add(self, entry: KeyEntry) -> KeyHistory:
        """Return the history with one more entry. Raises KeyHistoryError if this log cannot have it."""
        if self.frozen_at_index is not None:
            raise KeyHistoryError(f"entry {entry.index} comes after log.frozen at {self.frozen_at_index}")
        if entry.index <= self.last_index:
            raise KeyHistoryError(f"entry {entry.index} is not after entry {self.last_index}")
        lives, frozen_at_index = self.lives, None
        if entry.action == KEY_ADDED:
            lives = (*lives, self._added(entry))
        elif not lives:
            raise KeyHistoryError(f"{self.origin} does not begin with the key.added of its first key")
        elif entry.action == KEY_RETIRED:
            lives = self._retired(entry)
        elif entry.action == LOG_FROZEN:
            frozen_at_index = entry.index
        else:
            raise KeyHistoryError(f"{entry.action} is not about keys")
        return replace(self, lives=lives, last_index=entry.index, frozen_at_index=frozen_at_index)

    def keys_at(self, size: int) -> tuple[VerifierKey, ...]:
        """Return the keys that may sign a checkpoint of this size; none at size 0, which nobody signs."""
        return tuple(life.key for life in self.lives if life.may_sign(size))

    def active(self) -> tuple[str, ...]:
        """Return the verifier keys that are not retired."""
        return tuple(life.vkey for life in self.lives if life.retired_at_index is None)

    def verify_signed_by_valid_key(self, size: int, signers: Collection[VerifierKey]) -> None:
        """Raise KeyNotValidError unless one of `signers` may sign a checkpoint of this size.

        `signers` are the keys whose signatures on the checkpoint were verified.
        """
        if not any(key in signers for key in self.keys_at(size)):
            raise KeyNotValidError(f"no key that may sign {self.origin} at size {size} has signed")

    def _added(self, entry: KeyEntry) -> KeyLife:
        if not self.lives and entry.index != 0:
            raise KeyHistoryError(f"{self.origin} does not begin with the key.added of its first key")
        if len(self.lives) >= MAX_KEYS:
            raise KeyHistoryError(f"{self.origin} has had {MAX_KEYS} keys, the most that a log can have")
        key = _parse_log_key(self.origin, entry.vkey)
        if any(key.public_key == life.key.public_key for life in self.lives):
            raise KeyHistoryError("a key is added once; a retired one never comes back")
        if any(key.key_id == life.key.key_id for life in self.lives):
            raise KeyHistoryError("another key of this log has the same key id")
        return KeyLife(key=key, vkey=str(entry.vkey), added_at_index=entry.index)

    def _retired(self, entry: KeyEntry) -> tuple[KeyLife, ...]:
        if entry.vkey not in self.active():
            raise KeyHistoryError("only an active key of this log can be retired")
        if self.active() == (entry.vkey,):
            raise KeyHistoryError("the last active key cannot be retired; add its successor first")
        return tuple(
            replace(life, retired_at_index=entry.index) if life.vkey == entry.vkey else life for life in self.lives
        )


def read_history(origin: str, entries: Iterable[KeyEntry]) -> KeyHistory:
    """Return the history that these entries, all of the log's about keys and in its order, tell.

    Raises KeyHistoryError, naming the index, for the first that the log cannot have.
    """
    history = KeyHistory(origin=origin)
    for entry in entries:
        history = history.add(entry)
    return history


def check_addition(history: KeyHistory, vkey: str, *, next_index: int) -> None:
    """Refuse a `key.added` that would be false: `assay key rotate` asks this before it appends.

    `next_index` is the integrated size or more. Raises KeyHistoryError.
    """
    history.add(KeyEntry(index=next_index, action=KEY_ADDED, vkey=vkey))


def check_retirement(history: KeyHistory, vkey: str, *, published_size: int) -> None:
    """Refuse a `key.retired` that would be false or would strand verifiers: `assay key retire` asks before it appends.

    Another key that is not retired must have been added within the published tree: then a published checkpoint that
    both keys signed shows the way from one to the other. Raises KeyHistoryError, or Conflict until it is published.
    """
    history.add(KeyEntry(index=max(published_size, history.last_index + 1), action=KEY_RETIRED, vkey=vkey))
    others = [life for life in history.lives if life.retired_at_index is None and life.vkey != vkey]
    if not any(life.may_sign(published_size) for life in others):
        raise Conflict(
            "the successor's key.added is not published yet; retire the key once it is",
            code="key_successor_unpublished",
        )


def extend_trust(
    known: Collection[VerifierKey], history: KeyHistory, checkpoints: Sequence[tuple[int, Collection[VerifierKey]]]
) -> frozenset[VerifierKey]:
    """Return the keys that whoever trusts `known` may trust: those, and each that a trusted key vouches for.

    A key vouches for another by signing, at a size at which it may, a checkpoint that contains the other's
    `key.added`. The caller has verified: `history` is that of the log, each of its entries proven; `checkpoints` are
    (size, keys whose signatures on it hold), and all are of that one log.
    """
    trusted = frozenset(key for key in known if key.name == history.origin)
    for size, signers in sorted(checkpoints, key=lambda checkpoint: checkpoint[0]):
        if trusted.intersection(signers, history.keys_at(size)):
            trusted |= {life.key for life in history.lives if life.added_at_index < size}
    return trusted


def _parse_log_key(origin: str, vkey: str | None) -> VerifierKey:
    """Return an Ed25519 key named as the origin; one of small order is refused by `parse_vkey`."""
    try:
        key = parse_vkey(vkey or "")
    except Malformed as error:
        raise KeyHistoryError(f"not a verifier key: {error}") from error
    if key.name != origin or key.algorithm != ED25519:
        raise KeyHistoryError(f"a key of {origin} is an Ed25519 key of that name")
    return key
