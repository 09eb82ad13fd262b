"""What a request brings, whichever way it is packed: multipart, JSON, a form, or bare bytes."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers

from birefnet_runtime.serve.parts import Part, split
from birefnet_runtime.serve.problem import Problem

# More than any route knows.
_MOST_FIELDS = 64
# Characters of a field that is no picture: none that is known has as many.
_LONGEST = 8192
# Bytes in which every format that is known has some that no text has.
_HEAD = 32
# Characters of a client's text that an error repeats.
_SHOWN = 40


@dataclass(frozen=True)
class File:
    """``name`` is what the client calls it: it names nothing here."""

    data: bytes
    name: str | None = None


@dataclass(frozen=True)
class Upload:
    """``kind``: ``multipart``, ``json``, ``form``, ``raw``, or ``none`` without a body.

    ``fields``: texts of the body, and of the query where the body has none of that name; numbers
    and booleans of JSON as text, null left out. ``files``: parts of a multipart body, and pictures
    that came as base64. ``raw``: the body, where it is a picture and nothing else.
    """

    kind: str = "none"
    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)
    raw: File | None = None

    def only(self, fields: Collection[str], files: Collection[str] = ()) -> None:
        """Problem ``bad_option`` that names the fields that are none of ``fields`` or ``files``."""
        unknown = [name for name in self.fields if name not in fields]
        unknown += [name for name in self.files if name not in files]
        if unknown:
            named = ", ".join(shown(name) for name in sorted(unknown)[:5])
            known = ", ".join(sorted({*fields, *files}))
            raise Problem("bad_option", f"Not known: {named}. Known are: {known}.")


def parse(body: bytes, headers: Headers, query: str, encoded: Collection[str] = ()) -> Upload:
    """The fields and files of ``body`` and ``query``.

    Fields of the body named in ``encoded`` are pictures in base64, bare or as a ``data:`` URL.
    Problem ``bad_request`` for what is damaged, or given twice.
    """
    header = headers.get("content-type", "")
    kind, options = parse_options_header(header)
    found = _body(body, kind.decode("latin-1"), options, headers, encoded)
    fields = _unique(_pairs(query.encode(), "query"))
    return Upload(found.kind, {**fields, **found.fields}, found.files, found.raw)


def shown(text: str) -> str:
    """``text`` of a client as an error may repeat it: quoted, short, and printable."""
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _body(
    body: bytes, kind: str, options: dict[bytes, bytes], headers: Headers, encoded: Collection[str]
) -> Upload:
    if kind == "multipart/form-data":
        return _of_parts(split(body, options.get(b"boundary", b"")), encoded)
    if not body:
        return Upload()
    if kind == "application/json" or kind.endswith("+json"):
        return _of_texts("json", _json(body), encoded)
    if kind == "application/x-www-form-urlencoded" and not _is_binary(body):
        return _of_texts("form", _pairs(body, "body"), encoded)
    return Upload("raw", raw=File(body, _name(headers)))


def _is_binary(body: bytes) -> bool:
    """Whether ``body`` is a picture under a form's name, which is what ``curl --data-binary`` calls
    whatever it sends. A form is printable; the head of no picture is."""
    return not all(0x20 <= byte < 0x7F for byte in body[:_HEAD])


def _of_parts(parts: Iterable[Part], encoded: Collection[str]) -> Upload:
    texts: list[tuple[str, str]] = []
    files: list[tuple[str, File]] = []
    for part in parts:
        if part.is_file:
            # A browser sends a form's file field that is empty, too.
            if part.data or part.file_name:
                files.append((part.name, File(part.data, part.file_name)))
        else:
            texts.append((part.name, _text(part.data, part.name)))
    made = _of_texts("multipart", texts, encoded)
    return Upload("multipart", made.fields, _unique([*files, *made.files.items()]))


def _of_texts(kind: str, pairs: list[tuple[str, str]], encoded: Collection[str]) -> Upload:
    found = _unique(pairs)
    files = {name: File(_decoded(name, found.pop(name))) for name in encoded if name in found}
    for name, text in found.items():
        if len(text) > _LONGEST:
            raise Problem("bad_request", f"Field {shown(name)} is too long.")
    return Upload(kind, found, files)


def _unique(pairs: Collection[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > _MOST_FIELDS:
        raise Problem("bad_request", f"There are more than {_MOST_FIELDS} fields.")
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise Problem("bad_request", f"Field {shown(name)} is given twice.")
        found[name] = value
    return found


def _pairs(data: bytes, where: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            data.decode(),
            keep_blank_values=True,
            strict_parsing=bool(data),
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise Problem(
            "bad_request",
            f"The {where} is no list of fields (name=value&...). A picture alone is sent with its "
            "own Content-Type, such as image/jpeg.",
        ) from None


def _json(body: bytes) -> list[tuple[str, str]]:
    try:
        pairs = json.loads(body, object_pairs_hook=list, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Problem("bad_request", "The body is no JSON.") from None
    if not body.lstrip().startswith(b"{") or not isinstance(pairs, list):
        raise Problem("bad_request", "The body is no JSON object.")
    return [(name, _scalar(name, value)) for name, value in pairs if value is not None]


def _scalar(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise Problem("bad_request", f"Field {shown(name)} is no text, number or boolean.")


def _no_number(text: str) -> None:
    raise ValueError(text)


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Problem("bad_request", f"{shown(name)} is no text in UTF-8.") from None


def _decoded(name: str, text: str) -> bytes:
    """The bytes of base64, or of a data: URL that holds it."""
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise Problem("bad_request", f"Field {shown(name)} is no data: URL with base64.")
    try:
        return base64.b64decode(text.translate(_NO_SPACE), validate=True)
    except (binascii.Error, ValueError):
        raise Problem("bad_request", f"Field {shown(name)} is no base64.") from None


# What mail programs and shells break lines with.
_NO_SPACE = {ord(sign): None for sign in " \t\r\n"}


def _name(headers: Headers) -> str | None:
    """The file name of a bare picture, from Content-Disposition."""
    try:
        _, options = parse_options_header(headers.get("content-disposition", ""))
    except (FormParserError, ValueError):
        return None
    name = options.get(b"filename")
    return None if name is None else name.decode("utf-8", "replace")
