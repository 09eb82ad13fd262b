"""``/api/remove``: the server of rembg (its 2.0.86), for clients that were written for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from birefnet_runtime.cutout import Cutout
from birefnet_runtime.encode import encode
from birefnet_runtime.options import Options
from birefnet_runtime.serve.answer import server_timing
from birefnet_runtime.serve.canvas import Paint, over
from birefnet_runtime.serve.fields import boolean, integer
from birefnet_runtime.serve.problem import Problem
from birefnet_runtime.serve.routes.rembg_docs import (
    FIELDS,
    PARAMETERS,
    REQUEST,
    RESPONSES,
    URL,
)
from birefnet_runtime.serve.service import Service
from birefnet_runtime.serve.upload import shown

PATH = "/api/remove"
# Alpha matting and clean edges: colours are estimated for every cut-out here.
_DONE = ("a", "dc")
# Of its matting, its models and its clean-up nothing is here; numbers must be numbers all the same.
_LEVELS = ("af", "ab")
_SWITCHES = ("ppm", "vm")
# As Python's int() takes each part.
_COLOUR = re.compile(
    r"\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*(?:,\s*(\d{1,3})\s*)?", re.ASCII
)


@dataclass(frozen=True)
class _Asked:
    """``mask``: alpha alone. ``paint``: what lies behind. ``ignored``: fields without meaning."""

    mask: bool
    paint: Paint | None
    ignored: tuple[str, ...]

    @classmethod
    def of(cls, given: Mapping[str, str]) -> _Asked:
        """What the texts ask for; Problem for one that is malformed."""
        switches = {
            name: boolean(name, given[name]) for name in (*_DONE, "om", *_SWITCHES) if name in given
        }
        for name in (*_LEVELS, "ae"):
            if name in given:
                _check_number(name, given[name])
        paint = _paint(given["bgc"]) if given.get("bgc") else None
        mask = switches.get("om", False)
        ignored = [name for name in ("model", *_LEVELS, "ae", "extras") if name in given]
        ignored += [name for name in _SWITCHES if switches.get(name)]
        # As rembg has it, a mask is given back without a background.
        ignored += ["bgc"] if mask and paint is not None else []
        return cls(mask, paint, tuple(ignored))


def router(service: Service) -> APIRouter:
    """Both routes, and their errors as FastAPI words them."""
    routes = APIRouter()
    service.dialects[PATH] = render

    @routes.post(
        PATH,
        summary="Cut out a picture, as rembg's server does",
        tags=["compatible"],
        response_class=Response,
        responses=RESPONSES,
        openapi_extra={"requestBody": REQUEST, "parameters": PARAMETERS},
    )
    async def remove(request: Request) -> Response:
        upload = await service.receive(request)
        upload.only(FIELDS, ("file",))
        file = upload.files.get("file")
        if file is None:
            raise Problem("bad_request", "Give the picture as a file in the field file.")
        return await _cut(service, request, file.data, _Asked.of(upload.fields))

    @routes.get(
        PATH,
        summary="Cut out a picture by its URL, as rembg's server does, where fetching is on",
        tags=["compatible"],
        response_class=Response,
        responses=RESPONSES,
        openapi_extra={"parameters": [URL, *PARAMETERS]},
    )
    async def remove_url(request: Request) -> Response:
        upload = await service.receive(request)
        upload.only(("url", *FIELDS))
        if not upload.fields.get("url"):
            raise Problem("bad_request", "Give the picture's address in url.")
        asked = _Asked.of(upload.fields)
        data = await service.fetch(upload.fields["url"])
        return await _cut(service, request, data, asked)

    return routes


def render(problem: Problem, call_id: str) -> Response:
    """``{"detail"}``, as FastAPI has it; the id is in a header."""
    return JSONResponse({"detail": problem.message}, problem.status, problem.headers)


async def _cut(service: Service, request: Request, data: bytes, asked: _Asked) -> Response:
    options = Options(output="alpha" if asked.mask else "rgba")
    done = await service.cut(request, data, options, _finisher(asked))
    headers = {"Server-Timing": server_timing(done.seconds)}
    if asked.ignored:
        headers["X-Ignored"] = ", ".join(asked.ignored)
    return Response(done.value, media_type="image/png", headers=headers)


def _finisher(asked: _Asked) -> Callable[[Cutout], bytes]:
    """What a worker does with the cut-out: PNG, as rembg always gives it."""

    def work(cutout: Cutout) -> bytes:
        if asked.mask or asked.paint is None:
            return cutout.encode(".png")
        return encode(over(cutout.rgba, asked.paint), ".png", cutout.metadata)

    return work


def _check_number(name: str, text: str) -> None:
    value = integer(name, text)
    if value < 0 or (name in _LEVELS and value > 255):
        most = "to 255" if name in _LEVELS else "up"
        raise Problem("bad_option", f"{name} must be from 0 {most}, not {shown(text)}.")


def _paint(text: str) -> Paint:
    match = _COLOUR.fullmatch(text)
    if match:
        red, green, blue, alpha = (int(part or 255) for part in match.groups())
        if max(red, green, blue, alpha) <= 255:
            return (red, green, blue, alpha)
    raise Problem("bad_option", f"bgc must be r,g,b or r,g,b,a in 0..255, not {shown(text)}.")
