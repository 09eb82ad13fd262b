"""The page for people, and the description for programmers, which needs nothing from elsewhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import Response

from birefnet_runtime.serve import manual
from birefnet_runtime.serve.problem import Problem

_FOLDER = Path(__file__).parent.parent / "page"
_INDEX = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing from elsewhere, nothing inline; blob: and data: are pictures that the page makes.
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'none'"
)


@dataclass(frozen=True)
class _Static:
    """One file of the page, with what its answers say."""

    data: bytes
    headers: dict[str, str]

    @classmethod
    def of(cls, data: bytes, suffix: str) -> _Static:
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        kind = _TYPES[suffix]
        # Asked for each time, and answered with 304 as long as it is the same.
        headers = {"Content-Type": kind, "ETag": tag, "Cache-Control": "no-cache"}
        return cls(data, {**headers, "Content-Security-Policy": _POLICY})

    def answer(self, request: Request) -> Response:
        if request.headers.get("if-none-match") == self.headers["ETag"]:
            return Response(status_code=304, headers=self.headers)
        return Response(self.data, headers=self.headers)


def router(app: FastAPI) -> APIRouter:
    """The page's files, as they are now, and /docs made of the routes that ``app`` has when it is
    first asked for."""
    routes = APIRouter(include_in_schema=False)
    # By name: what is not here cannot be named by any path.
    files = {
        path.name: _Static.of(path.read_bytes(), path.suffix)
        for path in sorted(_FOLDER.iterdir())
        if path.suffix in _TYPES
    }
    made: list[_Static] = []

    @routes.get("/")
    async def index(request: Request) -> Response:
        return _found(files, _INDEX).answer(request)

    @routes.get("/page/{name}")
    async def file(request: Request) -> Response:
        return _found(files, request.path_params["name"]).answer(request)

    @routes.get("/docs")
    async def docs(request: Request) -> Response:
        if not made:
            made.append(_Static.of(manual.html(app.openapi()).encode(), ".html"))
        return made[0].answer(request)

    @routes.get("/page/manual/style")
    async def style(request: Request) -> Response:
        return _Static.of(manual.STYLE.encode(), ".css").answer(request)

    return routes


def _found(files: dict[str, Any], name: str) -> _Static:
    if name not in files:
        raise Problem("not_found", "There is no such file: the page is at /.")
    found: _Static = files[name]
    return found
