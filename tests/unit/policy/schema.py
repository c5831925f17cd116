"""The JSON Schema of the entry `decision.recorded`'s data, as the ledger's registry holds it."""

_TEXT = {"type": "string", "minLength": 1, "maxLength": 200}
_NAME = {"type": "string", "minLength": 1, "maxLength": 64}
_DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_CODE = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,63}$"}


def _object(properties, optional=()):
    required = [key for key in properties if key not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


DECISION_RECORDED = _object(
    {
        "decision_id": {"type": "string", "pattern": "^dec_[0-9a-f]{32}$"},
        "entrypoint": {"type": "string", "pattern": "^[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)+$", "maxLength": 128},
        "mode": {"enum": ["enforce"]},
        "bundle": _object({"name": _NAME, "digest": _DIGEST}),
        "data": {
            "type": "array",
            "maxItems": 32,
            "items": _object({"name": _CODE, "version": _NAME, "digest": _DIGEST}),
        },
        "engine": _object({"name": _NAME, "version": _NAME}),
        "input_digest": {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$"},
        "result": _object(
            {
                "verdict": {"enum": ["allow", "deny", "review"]},
                "reasons": {
                    "type": "array",
                    "maxItems": 32,
                    "items": _object(
                        {"code": _CODE, "message": _TEXT, "control": _TEXT, "statute": _TEXT},
                        optional=("control", "statute"),
                    ),
                },
                "output": {
                    "type": "object",
                    "maxProperties": 16,
                    "propertyNames": {"pattern": "^[a-z][a-z0-9_]{0,63}$"},
                    "additionalProperties": {"type": ["string", "integer"], "maxLength": 200},
                },
            }
        ),
        "result_digest": _DIGEST,
        "latency_us": {"type": "integer", "minimum": 0},
    }
)
