"""Whether the service lives, whether it is ready, what it is, and what it measures."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from fastapi import APIRouter
from PIL import Image
from starlette.responses import JSONResponse, Response

from birefnet_runtime.decode import FORMATS
from birefnet_runtime.serve import fields
from birefnet_runtime.serve.life import State
from birefnet_runtime.serve.metrics import MEDIA_TYPE
from birefnet_runtime.serve.problem import SOON, documented
from birefnet_runtime.serve.service import Service


def _text(description: str) -> dict[str, Any]:
    return {"type": ["string", "null"], "description": description}


_READY = {
    "type": "object",
    "required": ["ready", "state", "model", "device"],
    "properties": {
        "ready": {"type": "boolean"},
        "state": {"type": "string", "enum": [state.value for state in State]},
        "model": _text("null until it is loaded"),
        "device": _text("cpu, cuda or tensorrt"),
    },
}
_INFO = {
    "type": "object",
    "required": ["model", "device", "max_bytes", "max_pixels", "formats", "key"],
    "properties": {
        "model": _text("null until it is loaded"),
        "device": _text("cpu, cuda or tensorrt"),
        "height": {"type": ["integer", "null"], "description": "pixels of the model's input"},
        "width": {"type": ["integer", "null"]},
        "licence": _text("of the weights"),
        "max_bytes": {"type": "integer", "description": "of a request's body"},
        "max_pixels": {"type": "integer", "description": "of a picture"},
        "formats": {
            "type": "object",
            "properties": {
                "in": {"type": "array", "items": {"type": "string"}},
                "out": {"type": "array", "items": {"type": "string"}},
            },
        },
        "key": {"type": "boolean", "description": "whether a key is needed"},
    },
}


def _answer(description: str, schema: dict[str, Any], kind: str = "application/json") -> Any:
    return {"description": description, "content": {kind: {"schema": schema}}}


def router(service: Service) -> APIRouter:
    """The routes of those who run the service."""
    routes = APIRouter(tags=["service"])
    _add_probes(routes, service)

    @routes.get(
        "/v1/info",
        summary="What this service is",
        responses={200: _answer("model, limits and formats", _INFO), **documented("forbidden")},
        response_class=JSONResponse,
    )
    async def info() -> Response:
        return JSONResponse(_info(service))

    @routes.get(
        "/metrics",
        summary="Measurements for Prometheus",
        responses={
            200: _answer("text of the exposition format", {"type": "string"}, "text/plain"),
            **documented("unauthorized", "forbidden"),
        },
        response_class=Response,
    )
    def metrics() -> Response:
        return Response(service.metrics.text(), media_type=MEDIA_TYPE)

    return routes


def _add_probes(routes: APIRouter, service: Service) -> None:
    alive = {"type": "object", "properties": {"alive": {"type": "boolean"}}}

    @routes.get(
        "/healthz",
        summary="Whether the process lives",
        responses={200: _answer("it does", alive), **documented("forbidden")},
        response_class=JSONResponse,
    )
    async def healthz() -> Response:
        return JSONResponse({"alive": True})

    @routes.get(
        "/readyz",
        summary="Whether pictures are taken now",
        responses={
            200: _answer("they are", _READY),
            503: _answer("not yet, or not any more", _READY),
            **documented("forbidden"),
        },
        response_class=JSONResponse,
    )
    async def readyz() -> Response:
        state = service.life.state
        ready = state is State.READY
        body = {"ready": ready, "state": state.value, **_model(service)}
        headers = None if ready else {"Retry-After": str(SOON)}
        return JSONResponse(body, 200 if ready else 503, headers)


def _model(service: Service) -> dict[str, Any]:
    opened = service.life.matting
    if opened is None:
        return {"model": None, "device": None}
    return {"model": opened.matting.contract.name, "device": opened.matting.device}


def _info(service: Service) -> dict[str, Any]:
    opened, settings = service.life.matting, service.settings
    contract = None if opened is None else opened.matting.contract
    return {
        **_model(service),
        "height": None if contract is None else contract.height,
        "width": None if contract is None else contract.width,
        "licence": None if contract is None else contract.licence,
        "max_bytes": settings.max_body,
        "max_pixels": settings.max_pixels,
        "formats": {"in": _taken(), "out": list(fields.FORMATS[1:])},
        "key": bool(settings.keys),
    }


def _taken() -> list[str]:
    """The formats that are read here."""
    Image.init()
    heic = any(find_spec(name) for name in ("pi_heif", "pillow_heif"))
    return [name.lower() for name in FORMATS if name in Image.OPEN or (name == "HEIF" and heic)]
