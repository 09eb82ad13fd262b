"""``POST /v1/remove``, with everything that can be asked of a cut-out, and the plain
``POST /remove_background``: a picture in, a PNG back."""

from __future__ import annotations

import base64
import json
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from birefnet_runtime.cutout import Cutout
from birefnet_runtime.decode import check_size, errors_about, open_header, open_source
from birefnet_runtime.errors import InputError
from birefnet_runtime.options import Options
from birefnet_runtime.serve import describe, fields
from birefnet_runtime.serve.answer import (
    Answer,
    disposition,
    facts,
    make,
    media_type,
    server_timing,
    wants_json,
)
from birefnet_runtime.serve.call import call_of
from birefnet_runtime.serve.fields import IMAGE, Asked
from birefnet_runtime.serve.problem import Problem, as_problem
from birefnet_runtime.serve.service import Done, Service
from birefnet_runtime.serve.upload import File

# Pictures that a body without files brings as text.
_ENCODED = (fields.IMAGE, fields.BACKGROUND_IMAGE)


@dataclass(frozen=True)
class _Made:
    """``text``: the picture in base64, where it is asked for as JSON."""

    answer: Answer
    text: bytes | None


def router(service: Service) -> APIRouter:
    """Our own two routes to a cut-out."""
    routes = APIRouter(tags=["cut out"])

    @routes.post(
        "/v1/remove",
        summary="Cut out a picture",
        description=describe.REMOVE,
        responses=describe.answers(),
        response_class=Response,
        openapi_extra={"requestBody": describe.body(), "parameters": describe.parameters()},
    )
    async def remove(request: Request) -> Response:
        upload = await service.receive(request, _ENCODED)
        asked = fields.read(upload, service.settings.max_pixels)
        work = partial(_make, suffix=asked.suffix, text=wants_json(request))
        source = partial(_source, asked)
        done = await service.cut(request, source, asked.options, work)
        return _respond(done, asked.picture, call_of(request).id)

    @routes.post(
        "/remove_background",
        summary="Cut out a picture, as PNG",
        description=describe.PLAIN,
        responses=describe.answers(("image/png",), json=False),
        response_class=Response,
        openapi_extra={"requestBody": describe.form()},
    )
    async def remove_background(request: Request) -> Response:
        upload = await service.receive(request)
        upload.only((), (IMAGE,))
        if IMAGE not in upload.files:
            raise Problem("bad_request", "Give the picture as the file field image (multipart).")
        picture = upload.files[IMAGE]
        work = partial(_make, suffix=".png", text=False)
        done = await service.cut(request, picture.data, Options(), work)
        return _respond(done, picture, call_of(request).id)

    return routes


def _source(asked: Asked) -> bytes:
    """The picture to cut out, in a worker; what goes behind it is looked at before it."""
    behind = asked.options.background
    if isinstance(behind, bytes):
        _check_behind(behind, asked.options.max_pixels)
    return asked.picture.data


def _check_behind(data: bytes, max_pixels: int) -> None:
    """Problem for a background that is no picture, or too large by its header."""
    try:
        with ExitStack() as stack:
            stream, name = open_source(data, stack)
            with errors_about(name), open_header(stream, name) as image:
                check_size(name, *image.size, max_pixels)
    except InputError as error:
        problem = as_problem(error, max_pixels)
        message = problem.message.replace("The picture", "The background picture", 1)
        raise Problem(problem.code, message) from error


def _make(cutout: Cutout, suffix: str, text: bool) -> _Made:
    answer = make(cutout, suffix)
    return _Made(answer, base64.b64encode(answer.data) if text else None)


def _respond(done: Done[_Made], picture: File, call_id: str) -> Response:
    answer, text = done.value.answer, done.value.text
    headers = {**facts(answer), "Server-Timing": server_timing(done.seconds)}
    if text is not None:
        # Put together by hand: dumping many megabytes would hold up the event loop.
        rest = json.dumps(_summary(answer, done.seconds, call_id)).encode()
        body = b'{"image": "' + text + b'", ' + rest[1:]
        return Response(body, headers=headers, media_type="application/json")
    headers["Content-Disposition"] = disposition(picture.name, answer.suffix)
    return Response(answer.data, headers=headers, media_type=media_type(answer.suffix))


def _summary(answer: Answer, seconds: dict[str, float], call_id: str) -> dict[str, Any]:
    box, score = answer.box, answer.score
    return {
        "format": answer.format,
        "width": answer.width,
        "height": answer.height,
        "foreground": None
        if box is None
        else {"top": box.top, "left": box.left, "width": box.width, "height": box.height},
        "found": score.found,
        "share": round(score.share, 4),
        "uncertainty": round(score.uncertainty, 4),
        "edge": answer.edge,
        "timings": {name: round(1000 * value, 1) for name, value in seconds.items()},
        "id": call_id,
    }
