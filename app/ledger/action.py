"""Actions: the closed list of what can be logged, each with a schema of its facts.

An unknown action and an unknown field are refused, so that nothing personal slips into the log under a name that
nobody reviewed. Which facts are personal is part of the action: those are logged as commitments alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema_rs

from app.errors import Conflict, Rejected
from app.ledger.entry import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One kind of entry. `properties` are JSON Schemas (draft 2020-12) of the fields of `data`.

    `external` actions may be appended through the API; the others are written by Assay alone, so that no token can
    forge a decision or an outcome. A later `version` of an action is another Action, called `name.v2`.
    """

    name: str
    title: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    personal: frozenset[str] = frozenset()
    external: bool = False
    version: int = 1

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of `data`."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.title,
            "type": "object",
            "properties": dict(self.properties),
            "required": sorted(self.required),
            "additionalProperties": False,
        }


class Registry:
    """All actions, by name."""

    def __init__(self, actions: Iterable[Action]) -> None:
        """Compile every schema once. Raises Conflict if two actions share a name."""
        self._actions: dict[str, Action] = {}
        self._validators: dict[str, jsonschema_rs.Validator] = {}
        for action in actions:
            if action.name in self._actions:
                raise Conflict(f"the action {action.name} is defined twice", code="action_duplicate")
            self._actions[action.name] = action
            self._validators[action.name] = jsonschema_rs.validator_for(action.schema, mask="the value")

    def __iter__(self) -> Iterator[Action]:
        """Iterate over the actions by name."""
        return iter(sorted(self._actions.values(), key=lambda action: action.name))

    def read(self, name: str) -> Action:
        """Return the action. Raises Rejected if there is none."""
        action = self._actions.get(name)
        if action is None:
            raise Rejected(
                "unknown action; `assay actions` and GET /v1/actions list them",
                code="action_unknown",
                pointer="/action",
            )
        return action

    def check(self, draft: Draft) -> None:
        """Refuse `data` or `sealed` that the action's schema does not allow. Raises Rejected."""
        action = self.read(draft.action)
        validator = self._validators[draft.action]
        try:
            problem = None if validator.is_valid(draft.data) else _first_problem(validator, draft.data)
        except ValueError:  # of the binding to Rust: a type that JSON does not have, a lone surrogate
            problem = Rejected("/data: not JSON", code="data_invalid", pointer="/data")
        if problem is not None:
            raise problem
        unknown = draft.sealed.keys() - action.personal
        if unknown:
            raise Rejected(
                f"{draft.action} has no personal field {min(unknown)!r}",
                code="field_unknown",
                pointer=f"/personal/{min(unknown)}",
            )


def _first_problem(validator: jsonschema_rs.Validator, data: Mapping[str, Any]) -> Rejected:
    """Return the first schema violation as an error that names the field and never repeats its value."""
    error = next(iter(validator.iter_errors(data)))
    pointer = "/data" + "".join(f"/{part}" for part in error.instance_path)
    return Rejected(f"{pointer}: {error.message}", code="data_invalid", pointer=pointer)
