"""The parts of a multipart body, cut out of it without copying it twice."""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from birefnet_runtime.serve.problem import Problem

# More than any route knows; each costs time.
_MOST_PARTS = 64
_MOST_HEADERS = 8
_LONGEST_HEADER = 4096


@dataclass(eq=False)
class Part:
    """``name`` of the field, ``file_name`` where there is one, ``kind``: its content type."""

    name: str = ""
    file_name: str | None = None
    kind: str = ""
    pieces: list[bytes] = field(default_factory=list)
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def data(self) -> bytes:
        """What lies between the part's headers and the next boundary."""
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)

    @property
    def is_file(self) -> bool:
        """Whether it is a file rather than a text."""
        return (
            self.file_name is not None
            or self.kind.startswith("image/")
            or self.kind == "application/octet-stream"
        )


def split(body: bytes, boundary: bytes) -> list[Part]:
    """The parts of ``body``; Problem ``bad_request`` where it is no multipart/form-data."""
    if not boundary:
        raise _broken("has no boundary in its Content-Type")
    reader = _Reader()
    try:
        parser = MultipartParser(
            boundary,
            reader.callbacks,  # type: ignore[arg-type]
            max_header_count=_MOST_HEADERS,
            max_header_size=_LONGEST_HEADER,
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, UnicodeDecodeError, ValueError):
        raise _broken("cannot be read") from None
    if not reader.ended:
        raise _broken("ends before its last boundary")
    return reader.parts


class _Reader:
    """Collects what the parser finds."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._name, self._value = b"", b""
        self.callbacks = {
            "on_part_begin": self._begin,
            "on_part_data": self._data,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == _MOST_PARTS:
            raise _broken(f"has more than {_MOST_PARTS} parts")
        self.parts.append(Part())

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self.parts[-1].headers.append((self._name.lower(), self._value))
        self._name, self._value = b"", b""

    def _headers_end(self) -> None:
        part = self.parts[-1]
        headers = dict(part.headers)
        kind, options = parse_options_header(headers.get(b"content-disposition", b""))
        if kind != b"form-data" or b"name" not in options:
            raise _broken("has a part without a name")
        part.name = options[b"name"].decode()
        if b"filename" in options:
            part.file_name = options[b"filename"].decode("utf-8", "replace")
        part.kind = parse_options_header(headers.get(b"content-type", b""))[0].decode("latin-1")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].pieces.append(data[start:end])

    def _end(self) -> None:
        self.ended = True


def _broken(what: str) -> Problem:
    return Problem("bad_request", f"The multipart body {what}.")
