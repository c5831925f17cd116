"""The trust file: which logs, which witnesses, and how many of them (C2SP tlog-policy, a draft).

Names are octets; those that are not UTF-8 are kept as surrogate escapes. A group names what stands above it, and
each name is a member at most once in the file: hence no cycles, and no witness counts twice.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from app.errors import Malformed, Rejected, TooLarge
from app.tlog.checkpoint import Checkpoint, open_checkpoint
from app.tlog.cosignature import Cosignature, verify_cosignatures
from app.tlog.encoding import parse_decimal
from app.tlog.note import COSIGNATURE_V1, ED25519, VerifierKey, format_vkey, parse_vkey

MAX_POLICY_BYTES = 262_144
MAX_LINES = 1_024
MAX_KEYS = 64  # logs, and again witnesses
MAX_GROUPS = 64
NO_QUORUM = "none"
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")


class QuorumNotMet(Rejected):
    """The log signed, and fewer witnesses than the policy asks for."""

    code = "quorum_not_met"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A log to accept: its key is named as its origin; there may be several keys for one origin."""

    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A witness; `name` is that of the policy, which may differ from the key's."""

    name: str
    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group has witnessed when at least `threshold` of its members have; a member may be a group."""

    name: str
    threshold: int
    members: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= len(self.members):
            raise Malformed("a group needs at least one of its members, and no more than it has")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedCheckpoint:
    """A checkpoint signed by `log_keys`, who cosigned it and when, and whether that is the policy's quorum.

    `quorum_met` is also true when the policy asks for none.
    """

    checkpoint: Checkpoint
    log_keys: tuple[VerifierKey, ...]
    cosignatures: tuple[Cosignature, ...]
    quorum_met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Whom to trust. Groups are ordered: one may only name witnesses and the groups before it."""

    logs: tuple[Log, ...]
    witnesses: tuple[Witness, ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: str = NO_QUORUM

    def __post_init__(self) -> None:
        names = [witness.name for witness in self.witnesses] + [group.name for group in self.groups]
        members = [member for group in self.groups for member in group.members]
        keys = [witness.key.public_key for witness in self.witnesses]
        if any(len(set(values)) != len(values) for values in (names, members, keys)):
            raise Malformed("a name, a member or a witness's key that stands twice could count twice")

    def verify_checkpoint(self, note: bytes, *, require_quorum: bool = True) -> VerifiedCheckpoint:
        """Return the checkpoint of a signed note, by a log of this policy and with its quorum; else raise.

        With `require_quorum=False` a missing quorum is only reported in the value.
        """
        opened = open_checkpoint(note, [log.key for log in self.logs])
        cosignatures = verify_cosignatures(opened.note, [witness.key for witness in self.witnesses])
        quorum_met = self.is_met_by({cosignature.key for cosignature in cosignatures})
        if require_quorum and not quorum_met:
            raise QuorumNotMet(f"{len(cosignatures)} cosignatures are not the quorum {self.quorum}")
        return VerifiedCheckpoint(
            checkpoint=opened.checkpoint,
            log_keys=opened.log_keys,
            cosignatures=cosignatures,
            quorum_met=quorum_met,
        )

    def is_met_by(self, keys: Collection[VerifierKey]) -> bool:
        """Return whether cosignatures by `keys` are the quorum; always true when the policy asks for none."""
        met = {witness.name for witness in self.witnesses if witness.key in keys}
        for group in self.groups:
            if len(met.intersection(group.members)) >= group.threshold:
                met.add(group.name)
        return self.quorum == NO_QUORUM or self.quorum in met


def parse_policy(data: bytes) -> Policy:
    """Return the policy of at most 1,024 lines; raise, naming the line, for any that is not understood."""
    if len(data) > MAX_POLICY_BYTES or data.count(b"\n") > MAX_LINES:
        raise TooLarge(f"a policy has at most {MAX_POLICY_BYTES} bytes and {MAX_LINES} lines")
    if _FORBIDDEN.search(data) or not data.endswith(b"\n"):
        raise Malformed("a policy has no control character but tab, and ends with a newline")
    draft = _Draft()
    for number, line in enumerate(data.decode(errors="surrogateescape").split("\n"), start=1):
        items = [item for item in line.replace("\t", " ").split(" ") if item]
        if items and not items[0].startswith("#"):
            try:
                draft.read(items[0], items[1:])
            except Rejected as error:
                raise Malformed(f"line {number}: {error}") from error
    return draft.finish()


def format_policy(policy: Policy) -> bytes:
    """Return the policy as a file without comments: logs, witnesses, groups, quorum."""
    lines = [["log", format_vkey(log.key), log.url or ""] for log in policy.logs]
    lines += [["witness", w.name, format_vkey(w.key), w.url or ""] for w in policy.witnesses]
    lines += [["group", group.name, str(group.threshold), *group.members] for group in policy.groups]
    lines += [["quorum", policy.quorum]]
    return "".join(" ".join(filter(None, items)) + "\n" for items in lines).encode(errors="surrogateescape")


class _Draft:
    """A policy while its lines are read."""

    def __init__(self) -> None:
        self.logs: list[Log] = []
        self.witnesses: list[Witness] = []
        self.groups: list[Group] = []
        self.quorum: str | None = None
        self.free: dict[str, bool] = {}  # each name defined so far, and whether it is in no group yet

    def read(self, keyword: str, items: list[str]) -> None:
        match keyword, items:
            case "log", [vkey, *url] if len(url) <= 1:
                self._add_log(Log(key=parse_vkey(vkey), url="".join(url) or None))
            case "witness", [name, vkey, *url] if len(url) <= 1:
                self._add_witness(Witness(name=name, key=parse_vkey(vkey), url="".join(url) or None))
            case "group", [name, threshold, _, *_]:
                self._add_group(name, threshold, tuple(items[2:]))
            case "quorum", [name]:
                self._set_quorum(name)
            case _:
                raise Malformed("not a line of a policy")

    def finish(self) -> Policy:
        if self.quorum is None:
            raise Malformed("a policy without a quorum line")
        return Policy(
            logs=tuple(self.logs),
            witnesses=tuple(self.witnesses),
            groups=tuple(self.groups),
            quorum=self.quorum,
        )

    def _add_log(self, log: Log) -> None:
        if log.key.algorithm != ED25519 or len(self.logs) == MAX_KEYS:
            raise Malformed(f"a log's key is for Ed25519 notes, and there are at most {MAX_KEYS}")
        if any(log.key.public_key == other.key.public_key for other in self.logs):
            raise Malformed("a log's key stands twice")
        self.logs.append(log)

    def _add_witness(self, witness: Witness) -> None:
        if witness.key.algorithm != COSIGNATURE_V1 or len(self.witnesses) == MAX_KEYS:
            raise Malformed(f"a witness's key is for cosignature/v1, and there are at most {MAX_KEYS}")
        if any(witness.key.public_key == other.key.public_key for other in self.witnesses):
            raise Malformed("a witness's key stands twice")
        self._define(witness.name)
        self.witnesses.append(witness)

    def _add_group(self, name: str, threshold: str, members: tuple[str, ...]) -> None:
        if len(self.groups) == MAX_GROUPS:
            raise TooLarge(f"more than {MAX_GROUPS} groups")
        for member in members:
            if not self.free.get(member):
                raise Malformed("a member that is not defined above, or is a member already")
            self.free[member] = False
        words = {"any": 1, "all": len(members)}
        least = words.get(threshold) or parse_decimal(threshold, len(members))
        self.groups.append(Group(name=name, threshold=least, members=members))
        self._define(name)

    def _set_quorum(self, name: str) -> None:
        if self.quorum is not None or (name != NO_QUORUM and name not in self.free):
            raise Malformed("a second quorum, or one that is not defined above")
        self.quorum = name

    def _define(self, name: str) -> None:
        if name == NO_QUORUM or name in self.free:
            raise Malformed("a name that is taken")
        self.free[name] = True
