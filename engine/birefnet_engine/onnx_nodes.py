"""Names of an ONNX file's nodes, read off the bytes: TensorRT 8.6 reports only their numbers.

Protocol Buffers' wire format (protobuf.dev, "Encoding"): a message is a row of fields, each a key
(number << 3 | wire type) and a value. Only the few fields that lead to a node's name are opened,
so a file of gigabytes costs nothing.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

# Field numbers in onnx.proto.
_MODEL_GRAPH, _GRAPH_NODE, _NODE_NAME, _NODE_OP = 7, 1, 3, 4
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def names(path: Path) -> list[str]:
    """``name (operator)`` of each node of the main graph, in the file's order.

    Raises ValueError where the file is no ONNX.
    """
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found: list[str] = []
        for start, end in _messages(data, 0, len(data), _MODEL_GRAPH):
            for node in _messages(data, start, end, _GRAPH_NODE):
                name = _text(data, node, _NODE_NAME) or f"node {len(found)}"
                found.append(f"{name} ({_text(data, node, _NODE_OP)})")
        return found


def _text(data: mmap.mmap, span: tuple[int, int], number: int) -> str:
    for start, end in _messages(data, *span, number):
        return data[start:end].decode(errors="replace")
    return ""


def _messages(data: mmap.mmap, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """(start, end) of every length-delimited field ``wanted`` between ``start`` and ``end``."""
    while start < end:
        key, start = _varint(data, start, end)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            _, start = _varint(data, start, end)
        elif kind in (_FIXED64, _FIXED32):
            start += 8 if kind == _FIXED64 else 4
        elif kind == _BYTES:
            length, start = _varint(data, start, end)
            if start + length > end:
                raise ValueError("the file is cut short")
            if number == wanted:
                yield start, start + length
            start += length
        else:
            raise ValueError(f"wire type {kind} at byte {start}")


def _varint(data: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    """An unsigned number of base 128, and where it ends."""
    value = shift = 0
    while start < end and shift < 64:
        byte = data[start]
        start, value = start + 1, value | (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
        shift += 7
    raise ValueError(f"no number at byte {start}")
