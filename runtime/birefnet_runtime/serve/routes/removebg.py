"""``POST /v1.0/removebg``: the API of remove.bg, for clients that were written for it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from birefnet_runtime.cutout import Cutout
from birefnet_runtime.decode import decode
from birefnet_runtime.encode import encode
from birefnet_runtime.errors import InputError, TooLargeError
from birefnet_runtime.frame import Box, Bytes
from birefnet_runtime.options import Options
from birefnet_runtime.serve import order as fields
from birefnet_runtime.serve.answer import media_type, server_timing, wants_json
from birefnet_runtime.serve.canvas import flatten, lay, over
from birefnet_runtime.serve.order import Order, Refusal
from birefnet_runtime.serve.problem import Problem, as_problem
from birefnet_runtime.serve.routes.removebg_docs import REQUEST, RESPONSES
from birefnet_runtime.serve.sent import Sent
from birefnet_runtime.serve.service import Service
from birefnet_runtime.serve.upload import Upload

PATH = "/v1.0/removebg"
# What JPEG puts behind a cut-out that has no background, as remove.bg does.
_WHITE = (255, 255, 255)
# Our codes -> status and code in remove.bg's API. Its clients know 400, 402, 403 and 429.
_CODES = {
    "bad_request": (400, "invalid_parameter"),
    "bad_option": (400, "invalid_parameter"),
    "unauthorized": (403, "auth_failed"),
    "too_large": (400, "file_too_large"),
    "not_a_picture": (400, "invalid_file_type"),
    "busy": (429, "rate_limit_exceeded"),
    "internal": (500, "unknown_error"),
}


@dataclass(frozen=True)
class _Result:
    """``body``: the file, or JSON round it. ``box``: the subject's, in the picture as sent."""

    body: bytes
    media_type: str
    height: int
    width: int
    box: Box


def router(service: Service) -> APIRouter:
    """The route, and its errors as remove.bg words them."""
    routes = APIRouter()
    service.dialects[PATH] = render

    @routes.post(
        PATH,
        summary="Cut out a picture, as remove.bg's API does",
        tags=["compatible"],
        response_class=Response,
        responses=RESPONSES,
        openapi_extra={"requestBody": REQUEST},
    )
    async def removebg(request: Request) -> Response:
        upload = await service.receive(request, encoded=(fields.ENCODED,))
        order = Order.of(upload)
        picture = await _picture(service, upload)
        behind = await _behind(service, upload)
        most = service.settings.max_pixels
        sent = Sent(picture, order.region, most, order.size)
        options = Options(output="alpha" if order.mask else "rgba", shrink=sent.shrink)
        work = _finisher(order, sent, behind, most, wants_json(request))
        done = await service.cut(request, _opener(sent, most), options, work)
        return _respond(done.value, order, done.seconds)

    return routes


def render(problem: Problem, call_id: str) -> Response:
    """``{"errors": [{"title", "code"}]}``; the id is in a header."""
    status, code = _CODES.get(problem.code, (problem.status, problem.code))
    if isinstance(problem, Refusal):
        code = problem.name
    body = {"errors": [{"title": problem.message, "code": code}]}
    return JSONResponse(body, status, problem.headers)


async def _picture(service: Service, upload: Upload) -> bytes:
    """The picture's bytes, of the one source that was given."""
    given = [name for name in (fields.FILE, fields.ENCODED) if name in upload.files]
    url = fields.texts(upload).get(fields.URL)
    names = ", ".join((fields.FILE, fields.ENCODED, fields.URL))
    if len(given) + (url is not None) > 1:
        raise Refusal("multiple_sources", f"Give the picture once, in one of {names}.")
    if url is not None:
        return await _fetched(service, fields.URL, url)
    if not given:
        raise Refusal("missing_source", f"Give the picture in one of {names}.")
    return upload.files[given[0]].data


async def _behind(service: Service, upload: Upload) -> bytes | None:
    """The bytes of the picture that goes behind the subject, or None."""
    url = fields.texts(upload).get(fields.BACK_URL)
    if url is not None:
        return await _fetched(service, fields.BACK_URL, url)
    file = upload.files.get(fields.BACK_FILE)
    return None if file is None else file.data


async def _fetched(service: Service, name: str, url: str) -> bytes:
    if not service.settings.fetch:
        raise Problem(
            "bad_option", f"This service fetches nothing by URL: send the file itself, not {name}."
        )
    return await service.fetch(url)


def _opener(sent: Sent, max_pixels: int) -> Callable[[], Bytes]:
    """Opens ``sent`` in a worker; remove.bg has a code of its own for too many pixels."""

    def opened() -> Bytes:
        try:
            return sent.open()
        except TooLargeError as error:
            message = as_problem(error, max_pixels).message
            raise Refusal("resolution_too_high", message) from error

    return opened


def _finisher(
    order: Order, sent: Sent, behind: bytes | None, max_pixels: int, as_json: bool
) -> Callable[[Cutout], _Result]:
    """What a worker does with the cut-out."""

    def work(cutout: Cutout) -> _Result:
        found = cutout.box
        if found is None:
            raise Refusal(
                "unknown_foreground",
                "Could not identify foreground in image: no subject stands out in it.",
            )
        height, width = cutout.alpha.shape
        sight = sent.sight((height, width))
        placement = order.layout.place(sight, found)
        pixels = lay(cutout.alpha if order.mask else cutout.rgba, placement)
        if not order.mask:
            picture = None if behind is None else _decoded(behind, max_pixels)
            pixels = _composed(pixels, order, picture)
        suffix = order.suffix or _suiting(pixels)
        box = sight.in_picture(found)
        data, kind = encode(pixels, suffix, sent.metadata), media_type(suffix)
        if as_json:
            data, kind = _json(data, box), "application/json"
        return _Result(data, kind, pixels.shape[0], pixels.shape[1], box)

    return work


def _decoded(data: bytes, max_pixels: int) -> Bytes:
    """uint8 [h,w,3]: the picture that goes behind."""
    try:
        return decode(data, max_pixels).rgb
    except InputError as error:
        message = as_problem(error, max_pixels).message
        message = message.replace("The picture", "The background picture", 1)
        raise Problem("bad_option", message) from error


def _composed(rgba: Bytes, order: Order, picture: Bytes | None) -> Bytes:
    """uint8 [H,W,4], or [H,W,3] where what lies behind is opaque, as it must be for JPEG."""
    if picture is not None:
        return flatten(rgba, picture)
    if order.paint is not None:
        *colour, alpha = order.paint
        if alpha == 255:
            return flatten(rgba, (colour[0], colour[1], colour[2]))
        rgba = over(rgba, order.paint)
    return flatten(rgba, _WHITE) if order.suffix == ".jpg" else rgba


def _suiting(pixels: Bytes) -> str:
    """JPEG where nothing is transparent, PNG for the rest."""
    return ".jpg" if pixels.shape[2:] == (3,) else ".png"


def _json(data: bytes, box: Box) -> bytes:
    """remove.bg's JSON round the file ``data``."""
    found = {
        "result_b64": base64.b64encode(data).decode(),
        "foreground_top": box.top,
        "foreground_left": box.left,
        "foreground_width": box.width,
        "foreground_height": box.height,
    }
    return json.dumps({"data": found}).encode()


def _respond(result: _Result, order: Order, seconds: Mapping[str, float]) -> Response:
    headers = {
        "X-Width": str(result.width),
        "X-Height": str(result.height),
        "X-Credits-Charged": "0",
        "X-Foreground-Top": str(result.box.top),
        "X-Foreground-Left": str(result.box.left),
        "X-Foreground-Width": str(result.box.width),
        "X-Foreground-Height": str(result.box.height),
        "Server-Timing": server_timing(seconds),
    }
    if order.classified:
        # Its name for what is none of its classes: nothing is classified here.
        headers["X-Type"] = "other"
    if order.ignored:
        headers["X-Ignored"] = ", ".join(order.ignored)
    return Response(result.body, media_type=result.media_type, headers=headers)
