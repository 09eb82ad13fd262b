"""What OpenAPI says about ``POST /v1.0/removebg``."""

from __future__ import annotations

from typing import Any

from birefnet_runtime.serve import order

_COLOUR = (
    "#?([0-9a-fA-F]{3}|[0-9a-fA-F]{4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})|red|green|blue|white|black"
)
_SHARE = "([1-9]?[0-9]|100)%"
_PLACE = f"([0-9]{{1,6}}(px)?|{_SHARE})"
_MARGIN = "([1-4]?[0-9]{1,2}(px)?|500(px)?|[1-4]?[0-9]%|50%)"


def _text(meaning: str, pattern: str | None = None, **more: Any) -> dict[str, Any]:
    # A field that is empty counts as left out.
    kept = {} if pattern is None else {"pattern": f"^({pattern})?$"}
    return {"type": "string", "description": meaning, **kept, **more}


def _choice(meaning: str, known: tuple[str, ...], default: str) -> dict[str, Any]:
    return {"type": "string", "description": meaning, "enum": list(known), "default": default}


def _switch(meaning: str, value: bool, default: bool) -> dict[str, Any]:
    return {"type": "boolean", "description": meaning, "enum": [value], "default": default}


_ENCODED = _text("the picture in base64", contentEncoding="base64")
_PROPERTIES: dict[str, Any] = {
    order.ENCODED: _ENCODED,
    order.URL: _text("its address, where the service fetches (off by default)"),
    "size": _choice(
        "the result's pixels at most: 0.25 megapixels (preview, small, regular), 1.5, 4, 25 or 50",
        tuple(order.SIZES),
        "preview",
    ),
    "type": _choice("taken and without effect: any subject is cut out", order.TYPES, "auto"),
    "type_level": _choice("none leaves out X-Type, which is always other", order.LEVELS, "1"),
    "format": _choice("auto is PNG, or JPEG where nothing is transparent", order.FORMATS, "auto"),
    "roi": _text(
        "x1 y1 x2 y2 in px or %: what of the picture is looked at; the rest is background",
        f"{_PLACE}( {_PLACE}){{3}}",
    ),
    "crop": {"type": "boolean", "description": "cut to the subject", "default": False},
    "crop_margin": _text(
        "px or %, for all sides, for rows and columns, or from the top clockwise",
        f"{_MARGIN}( {_MARGIN}){{0,1}}|{_MARGIN}( {_MARGIN}){{3}}",
    ),
    "scale": _text(
        "original, or 10% to 100% of the canvas for the subject", "original|[1-9][0-9]%|100%"
    ),
    "position": _text(
        "original, center, or the shares of free space left of the subject and above",
        f"original|center|{_SHARE}( {_SHARE})?",
    ),
    "channels": _choice("colours with alpha, or the grey mask alone", order.CHANNELS, "rgba"),
    "bg_color": _text("hexadecimal (3, 4, 6 or 8 digits) or a colour's name", _COLOUR),
    "bg_image_url": _text("the address of a background picture, where the service fetches"),
    "add_shadow": _switch("only false: shadows are not drawn", False, False),
    "semitransparency": _switch("only true: what is half transparent stays so", True, True),
}
_FILES: dict[str, Any] = {
    order.FILE: {"type": "string", "format": "binary", "description": "the picture"},
    order.BACK_FILE: {"type": "string", "format": "binary", "description": "what goes behind it"},
}


def _schema(source: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [source],
        "additionalProperties": False,
    }


def _or_null(properties: dict[str, Any]) -> dict[str, Any]:
    """As JSON has them: null counts as left out."""
    found = {}
    for name, schema in properties.items():
        found[name] = {**schema, "type": [schema["type"], "null"]}
        if "enum" in schema:
            found[name]["enum"] = [*schema["enum"], None]
    return found | {order.ENCODED: _ENCODED}


REQUEST: dict[str, Any] = {
    "description": "Exactly one of image_file, image_file_b64 and image_url.",
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _schema(order.FILE, {**_FILES, **_PROPERTIES})},
        "application/x-www-form-urlencoded": {"schema": _schema(order.ENCODED, _PROPERTIES)},
        "application/json": {"schema": _schema(order.ENCODED, _or_null(_PROPERTIES))},
    },
}

_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_ERRORS = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["errors"],
            "properties": {
                "errors": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["title", "code"],
                        "properties": {
                            "title": {"type": "string"},
                            "code": {"type": "string"},
                        },
                    },
                }
            },
        }
    }
}
_WHOLE = {"schema": {"type": "integer"}}
_RESULT = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "type": "object",
            "required": ["result_b64"],
            "properties": {
                "result_b64": {"type": "string"},
                **{
                    f"foreground_{side}": {"type": "integer"}
                    for side in ("top", "left", "width", "height")
                },
            },
        }
    },
}
_RETRY = {"headers": {"Retry-After": {**_WHOLE, "description": "seconds"}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The result: an image, or JSON round it with Accept: application/json.",
        "content": {
            **{kind: _IMAGE for kind in ("image/png", "image/jpeg", "image/webp")},
            "application/zip": _IMAGE,
            "application/json": {"schema": _RESULT},
        },
        "headers": {
            **{name: {**_WHOLE, "description": "pixels"} for name in ("X-Width", "X-Height")},
            **{
                f"X-Foreground-{side}": {
                    **_WHOLE,
                    "description": "the subject's box, in pixels of the picture as it was sent",
                }
                for side in ("Top", "Left", "Width", "Height")
            },
            "X-Type": {"schema": {"type": "string"}, "description": "other"},
            "X-Credits-Charged": {**_WHOLE, "description": "0"},
            "X-Ignored": {
                "schema": {"type": "string"},
                "description": "fields that were given and have no effect",
            },
        },
    },
    400: {
        "description": "`invalid_parameter`, `missing_source`, `multiple_sources`, "
        "`invalid_file_type`, `file_too_large`, `resolution_too_high` or `unknown_foreground`",
        "content": _ERRORS,
    },
    403: {"description": "`auth_failed` or `forbidden`", "content": _ERRORS},
    408: {"description": "`slow_body`", "content": _ERRORS},
    429: {"description": "`rate_limit_exceeded`: come again", "content": _ERRORS, **_RETRY},
    500: {"description": "`unknown_error`", "content": _ERRORS},
    503: {"description": "`not_ready`", "content": _ERRORS, **_RETRY},
    504: {"description": "`deadline`", "content": _ERRORS},
}
