"""The OpenAPI document as a page of HTML, without scripts and without anything from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from textwrap import dedent
from typing import Any

STYLE = """
:root { color-scheme: light dark; }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }
h2 { margin-top: 3rem; border-top: 1px solid GrayText; padding-top: 1rem; }
h2 code { font-weight: 600; }
pre { padding: .75rem; overflow-x: auto; border: 1px solid GrayText; border-radius: 4px; }
pre { font-size: .85em; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; }
td { border-top: 1px solid color-mix(in srgb, GrayText 30%, transparent); }
"""
Node = Mapping[str, Any]
_CODE, _AS_CODE = re.compile("`([^`]+)`"), r"<code>\1</code>"


def html(document: Node) -> str:
    """``document``, as /openapi.json gives it, for people."""
    info = document["info"]
    body = "".join(
        _operation(method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])}</title>"
        '<link rel="stylesheet" href="/page/manual/style">'
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"{_prose(info.get('description', ''))}"
        '<p>For machines: <a href="/openapi.json">/openapi.json</a></p>'
        f"{body}</html>"
    )


def _operation(method: str, path: str, operation: Node) -> str:
    query = operation.get("parameters", ())
    # A field of the query that the body may have, too, is described once.
    known = {node["name"] for node in query}
    body = [item for item in _fields(operation.get("requestBody", {})) if item[0] not in known]
    parts = [
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>",
        f"<p>{escape(operation.get('summary', ''))}.</p>",
        _prose(operation.get("description", "")),
        _table("Query, or fields of the body" if body else "Query", query, _parameter),
        _table("Body", body, _field),
        _table("Answers", operation.get("responses", {}).items(), _answer),
        _table("Headers of the answer", _headers(operation), _header),
    ]
    return "".join(parts)


def _prose(text: str) -> str:
    """Paragraphs; those that are indented are examples, and code stands between backticks."""
    made = []
    for block in text.split("\n\n"):
        if block.startswith("    "):
            made.append(f"<pre>{escape(dedent(block))}</pre>")
        elif block:
            made.append(f"<p>{_CODE.sub(_AS_CODE, escape(block))}</p>")
    return "".join(made)


def _table(title: str, rows: Any, line: Any) -> str:
    made = "".join(f"<tr>{line(row)}</tr>" for row in rows)
    return f"<h3>{title}</h3><table>{made}</table>" if made else ""


def _cells(name: str, kind: str, text: str) -> str:
    return f"<td><code>{escape(name)}</code></td><td>{escape(kind)}</td><td>{escape(text)}</td>"


def _parameter(node: Node) -> str:
    return _cells(node["name"], _kind(node["schema"]), node.get("description", ""))


def _field(item: tuple[str, Node]) -> str:
    name, schema = item
    return _cells(name, _kind(schema), schema.get("description", ""))


def _answer(item: tuple[str, Node]) -> str:
    status, node = item
    return _cells(status, ", ".join(node.get("content", ())), node.get("description", ""))


def _header(item: tuple[str, Node]) -> str:
    name, node = item
    return _cells(name, _kind(node.get("schema", {})), node.get("description", ""))


def _headers(operation: Node) -> Iterator[tuple[str, Node]]:
    for node in operation.get("responses", {}).values():
        yield from node.get("headers", {}).items()


def _fields(body: Node) -> Iterator[tuple[str, Node]]:
    """The properties of each form of the body; those that two forms share once."""
    seen: set[str] = set()
    for kind, node in body.get("content", {}).items():
        properties = node.get("schema", {}).get("properties", {})
        new = {name: schema for name, schema in properties.items() if name not in seen}
        seen |= new.keys()
        yield from new.items()
        if not properties:
            yield kind, {"description": "the picture's bytes"}


def _kind(schema: Node) -> str:
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    kind = schema.get("type", "")
    return " | ".join(kind) if isinstance(kind, list) else str(kind)
