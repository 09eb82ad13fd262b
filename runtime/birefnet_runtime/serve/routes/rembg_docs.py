"""What OpenAPI says about ``/api/remove``."""

from __future__ import annotations

from typing import Any

from birefnet_runtime.serve.problem import CODES

_MEANINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "model": ("ignored: the service has one model", {"type": "string"}),
    "a": ("alpha matting: colours are estimated in any case", {"type": "boolean"}),
    "af": ("ignored", {"type": "integer", "minimum": 0, "maximum": 255}),
    "ab": ("ignored", {"type": "integer", "minimum": 0, "maximum": 255}),
    "ae": ("ignored", {"type": "integer", "minimum": 0}),
    "om": ("the mask alone", {"type": "boolean"}),
    "ppm": ("ignored", {"type": "boolean"}),
    "dc": ("clean edges: colours are estimated in any case", {"type": "boolean"}),
    "vm": ("ignored", {"type": "boolean"}),
    "bgc": ("r,g,b or r,g,b,a behind the subject, 0..255", {"type": "string"}),
    "extras": ("ignored, and never read", {"type": "string"}),
}
FIELDS = tuple(_MEANINGS)

PARAMETERS: list[dict[str, Any]] = [
    {"name": name, "in": "query", "description": meaning, "schema": schema}
    for name, (meaning, schema) in _MEANINGS.items()
]


URL = {
    "name": "url",
    "in": "query",
    "required": True,
    "description": "the picture's address",
    "schema": {"type": "string", "format": "uri"},
}
REQUEST = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "additionalProperties": False,
                "properties": {
                    "file": {"type": "string", "format": "binary", "description": "the picture"},
                    **{
                        name: {**schema, "description": meaning}
                        for name, (meaning, schema) in _MEANINGS.items()
                    },
                },
            }
        }
    },
}
_DETAIL = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["detail"],
            "properties": {"detail": {"type": "string"}},
        }
    }
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "PNG",
        "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            "X-Ignored": {
                "schema": {"type": "string"},
                "description": "fields that were given and have no effect",
            }
        },
    },
    **{
        status: {"description": "what is wrong", "content": _DETAIL}
        for status in sorted({status for status, _ in CODES.values()} - {404, 405})
    },
}
