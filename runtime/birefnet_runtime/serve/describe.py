"""What /openapi.json says of our own routes: the fields, each form of a body, each answer."""

from __future__ import annotations

from typing import Any

from birefnet_runtime.options import DEPTHS, EDGES, FITS, FOREGROUNDS, MAX_REACH, OUTPUTS, SPILLS
from birefnet_runtime.serve import fields
from birefnet_runtime.serve.problem import documented

Schema = dict[str, Any]
# Those that every route may end with that cuts out a picture.
ERRORS = (
    "bad_request",
    "bad_option",
    "unauthorized",
    "forbidden",
    "slow_body",
    "too_large",
    "not_a_picture",
    "internal",
    "busy",
    "not_ready",
    "deadline",
)
PICTURES = ("image/png", "image/jpeg", "image/webp", "image/tiff", "image/avif", "application/zip")
REMOVE = """The picture comes as the file field `image` of multipart/form-data, in base64 as `image`
of a JSON object, or as the body itself with its own Content-Type. Options are fields of the form or
keys of the object; as query parameters they work with every body, and the body's go first.

    curl -F image=@photo.jpg -F background=white -o white.jpg http://127.0.0.1:8000/v1/remove
    curl -H "Content-Type: image/jpeg" --data-binary @photo.jpg -o cutout.png \\
      "http://127.0.0.1:8000/v1/remove?crop=true"
    curl -H "Accept: application/json" -F image=@photo.jpg http://127.0.0.1:8000/v1/remove

Where a key is needed: `-H "X-Api-Key: KEY"`, or `-H "Authorization: Bearer KEY"`."""
PLAIN = """    curl -F image=@photo.jpg http://127.0.0.1:8000/remove_background -o cutout.png"""
_FILE: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}
_BASE64: Schema = {
    "type": "string",
    "contentEncoding": "base64",
    "description": "base64 of the file, or a data: URL",
}
_BOX_HEADERS = {
    "X-Foreground-Top": "first row of the subject's box, before cropping; absent without one",
    "X-Foreground-Left": "its first column",
    "X-Foreground-Width": "its width",
    "X-Foreground-Height": "its height",
}


def _choice(values: Any, text: str) -> Schema:
    return {"type": "string", "enum": list(values), "description": text}


def _flag(text: str) -> Schema:
    return {"type": "boolean", "description": text}


def _number(text: str, low: float, high: float, kind: str = "number") -> Schema:
    return {"type": kind, "minimum": low, "maximum": high, "description": text}


# By name, as they go into a query, a form, and a JSON object alike.
FIELDS: dict[str, Schema] = {
    "output": _choice(OUTPUTS, "the cut-out (rgba), its mask (alpha), or its colours"),
    "format": _choice(fields.FORMATS, "auto: jpg for opaque colour, else png"),
    "background": {
        "type": "string",
        "description": "#rgb, #rrggbb, a CSS colour name, blur, or checker",
        "examples": ["white", "#0a84ff", "blur"],
    },
    "crop": _flag("cut to the subject's box"),
    "margin": {
        "type": "string",
        "pattern": "^[0-9]{1,5}(px|%)?$",
        "description": "round that box: 30px, or 5% of its longer side",
    },
    "edge": _choice(EDGES, "at what resolution the outline is found"),
    "fit": _choice(FITS, "how the picture meets the model's size"),
    "foreground": _choice(FOREGROUNDS, "how the subject's own colours are found in soft edges"),
    "guided": _flag("let the soft band follow the picture's colours"),
    "feather": _number("blur of the mask's edge, sigma in pixels", 0, MAX_REACH),
    "levels": {
        "type": "string",
        "description": "LOW,HIGH: mask values that become 0 and 1",
        "examples": ["0.1,0.9"],
    },
    "offset": _number(
        "pixels by which the mask grows, or shrinks", -MAX_REACH, MAX_REACH, "integer"
    ),
    "despill": _choice(SPILLS, "take a screen's colour out of soft edges"),
    "depth": {"type": "integer", "enum": list(DEPTHS), "description": "16 keeps 16 bits"},
    "clear": _flag("no colour stays where alpha is 0 (default: true)"),
    "quality": _number("of lossy formats", 1, 100, "integer"),
    "keep_exif": _flag("keep EXIF tags, but never the place"),
    "size": {
        "type": "string",
        "description": "full, hd (4 megapixels), medium (1.5), preview (0.25), or a number of "
        "megapixels: a larger picture is scaled down first",
        "examples": ["full", "preview", "2.5"],
    },
}


def parameters() -> list[Schema]:
    """The fields as query parameters."""
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema["description"],
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
        for name, schema in FIELDS.items()
    ]


def body() -> Schema:
    """The forms that the body of /v1/remove may have."""
    form = _object({fields.IMAGE: _FILE, fields.BACKGROUND_IMAGE: _FILE})
    texts = _object({fields.IMAGE: _BASE64, fields.BACKGROUND_IMAGE: _BASE64})
    content: dict[str, Schema] = {
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": texts},
        "application/x-www-form-urlencoded": {"schema": texts},
        "application/octet-stream": {"schema": {}},
        "image/*": {"schema": {}},
    }
    return {"required": True, "content": content}


def form() -> Schema:
    """The body of /remove_background: one file."""
    schema = {
        "type": "object",
        "required": [fields.IMAGE],
        "properties": {fields.IMAGE: _FILE},
        "additionalProperties": False,
    }
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def answers(pictures: tuple[str, ...] = PICTURES, json: bool = True) -> dict[int | str, Schema]:
    """Every status, with its headers and contents."""
    content: dict[str, Schema] = {
        kind: {"schema": {"type": "string", "format": "binary"}} for kind in pictures
    }
    if json:
        content["application/json"] = {"schema": _ANSWER}
    found = {"description": "the picture", "content": content, "headers": _headers()}
    return {200: found, **documented(*ERRORS)}


def _object(files: dict[str, Schema]) -> Schema:
    return {
        "type": "object",
        "required": [fields.IMAGE],
        "properties": {**files, **FIELDS},
        "additionalProperties": False,
    }


def _headers() -> Schema:
    whole, share = {"type": "integer"}, {"type": "number", "minimum": 0, "maximum": 1}
    found: dict[str, tuple[Schema, str]] = {
        "X-Width": (whole, "of the answer, in pixels"),
        "X-Height": (whole, "of the answer, in pixels"),
        "X-Foreground-Found": (_choice(("true", "false"), ""), "whether there is a subject"),
        "X-Foreground-Share": (share, "mean alpha"),
        "X-Uncertainty-Score": (share, "of the soft band: 1 where all of it is half and half"),
        "X-Edge": ({"type": "string"}, "how the outline was found: single, zoom, hr or tiles"),
        "X-Request-Id": ({"type": "string"}, "the request's own where harmless, else a new one"),
        "Server-Timing": ({"type": "string"}, "queue, decode, preprocess, model, refine, encode"),
        "Content-Disposition": ({"type": "string"}, "a name for the file"),
    }
    found.update({name: (whole, text) for name, text in _BOX_HEADERS.items()})
    return {name: {"description": text, "schema": schema} for name, (schema, text) in found.items()}


_WHOLE = {"type": "integer", "minimum": 0}
_ANSWER: Schema = {
    "type": "object",
    "required": [
        "image",
        "format",
        "width",
        "height",
        "foreground",
        "found",
        "share",
        "uncertainty",
        "edge",
        "timings",
        "id",
    ],
    "properties": {
        "image": {"type": "string", "contentEncoding": "base64"},
        "format": _choice(fields.FORMATS[1:], "of the image"),
        "width": _WHOLE,
        "height": _WHOLE,
        "foreground": {
            "type": ["object", "null"],
            "description": "the subject's box in the picture before cropping",
            "required": ["top", "left", "width", "height"],
            "properties": {name: _WHOLE for name in ("top", "left", "width", "height")},
        },
        "found": {"type": "boolean"},
        "share": {"type": "number"},
        "uncertainty": {"type": "number"},
        "edge": {"type": "string"},
        "timings": {"type": "object", "additionalProperties": {"type": "number"}},
        "id": {"type": "string"},
    },
}
