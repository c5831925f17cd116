"""Rules and their METADATA, read from the text of modules: an engine need not know annotations to be explained by them.

What OPA calls an annotation is a block of comments that begins with `# METADATA`, in YAML, right before what it is of.
Of YAML this reads what the packs use: `key: value`, `key: |` with an indented text, and one level below `custom:`.
Rules are found by their place: formatted Rego (`assay policy fmt`) begins each at the margin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

_BEGIN: Final = "# METADATA"
_KEY: Final = re.compile(r"#( *)([a-z_]+):(?: (.*))?", re.ASCII)
_PACKAGE: Final = re.compile(r"package ([a-z][a-zA-Z0-9_.]*)", re.ASCII)
_RULE: Final = re.compile(r"(?:default )?([a-zA-Z_][a-zA-Z0-9_]*)", re.ASCII)
_NO_RULE: Final = ("package ", "import ", "#", "}", ")", "]")
_BLOCK_SIGNS: Final = frozenset({"|", ">", "|-", ">-"})
_TOP: Final = 1
"""Spaces after the `#` of a key that is not below another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """What the author says of a package or rule: by OPA's keys, and by those below `custom`."""

    title: str | None = None
    description: str | None = None
    control: str | None = None
    statute: str | None = None
    effective_from: str | None = None
    effective_to: str | None = None
    entrypoint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One definition of a rule or function: lines `first` to `last`, from 1.

    A name may have several; one without an annotation has that of the name's first.
    """

    path: str
    package: str
    name: str
    first: int
    last: int
    is_function: bool = False
    annotation: Annotation = field(default_factory=Annotation)

    @property
    def query(self) -> str:
        """How an engine is asked for the name's value."""
        return f"data.{self.package}.{self.name}"


def list_rules(modules: Mapping[str, str]) -> list[Rule]:
    """Return the definitions of all modules, in order of path and line."""
    return [rule for path in sorted(modules) for rule in _read_module(path, modules[path])]


def find_entrypoint_title(rules: Sequence[Rule], entrypoint: str) -> str | None:
    """Return the title of the rule that is asked as `package/rule`."""
    query = "data." + entrypoint.replace("/", ".")
    return next((rule.annotation.title for rule in rules if rule.query == query and rule.annotation.title), None)


def _read_module(path: str, text: str) -> Iterator[Rule]:
    lines = text.splitlines()
    found = next((match for line in lines if (match := _PACKAGE.match(line))), None)
    package = found[1] if found else ""
    starts = [number for number, line in enumerate(lines) if _begins_rule(line)]
    said: dict[str, Annotation] = {}
    for place, start in enumerate(starts):
        stop = starts[place + 1] if place + 1 < len(starts) else len(lines)
        body = [number for number in range(start, stop) if lines[number].strip() and not lines[number].startswith("#")]
        match = _RULE.match(lines[start])
        name = match[1] if match else ""
        annotation = _read_annotation(lines[:start])
        said.setdefault(name, annotation)
        yield Rule(
            path=path,
            package=package,
            name=name,
            first=start + 1,
            last=body[-1] + 1,
            is_function=lines[start].startswith(f"{name}("),
            annotation=said[name] if annotation == Annotation() else annotation,
        )


def _begins_rule(line: str) -> bool:
    return line[:1].strip() != "" and not line.startswith(_NO_RULE) and _RULE.match(line) is not None


def _read_annotation(before: Sequence[str]) -> Annotation:
    """Return the annotation that ends right here, an empty one if there is none."""
    block: list[str] = []
    for line in reversed(before):
        if line == _BEGIN:
            return _parse_annotation(block[::-1])
        if not line.startswith("#"):
            break
        block.append(line)
    return Annotation()


def _parse_annotation(block: Sequence[str]) -> Annotation:
    found: dict[str, str] = {}
    key, text = "", list[str]()
    for line in [*block, "# end:"]:
        match = _KEY.fullmatch(line)
        if match and (len(match[1]) == _TOP or not text):
            if text:
                found[key] = " ".join(text)
            text = []
            key = match[2]
            value = (match[3] or "").strip().strip('"')
            if value in _BLOCK_SIGNS:
                text = [""]
            elif value:
                found[key] = value
        elif text:
            text.append(line.lstrip("#").strip())
    known = {name: found.get(name) for name in ("title", "control", "statute", "effective_from", "effective_to")}
    return Annotation(
        **known,
        description=(found.get("description") or "").strip() or None,
        entrypoint=found.get("entrypoint") == "true",
    )
