"""The service as an ASGI application, for ``birefnet serve`` and for other programs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from birefnet_runtime.async_matting import AsyncMatting
from birefnet_runtime.serve.call import call_of
from birefnet_runtime.serve.gate import Gate
from birefnet_runtime.serve.life import Opener
from birefnet_runtime.serve.problem import Problem
from birefnet_runtime.serve.routes import health, page, rembg, removebg, v1
from birefnet_runtime.serve.service import Service
from birefnet_runtime.serve.settings import Settings

# Seconds for which a browser may remember what a page of another origin is allowed.
_REMEMBERED = 600
_METHODS = ("GET", "HEAD", "POST")
_HEARD = [
    "X-Width",
    "X-Height",
    "X-Foreground-Top",
    "X-Foreground-Left",
    "X-Foreground-Width",
    "X-Foreground-Height",
    "X-Foreground-Found",
    "X-Foreground-Share",
    "X-Uncertainty-Score",
    "X-Edge",
    "X-Request-Id",
    "Server-Timing",
    "Content-Disposition",
    "Retry-After",
]


def create_app(matting: AsyncMatting | Opener, settings: Settings | None = None) -> FastAPI:
    """The application. Its ``state.service`` is the ``Service`` behind it.

    ``matting``: one that is open stays the caller's, and is used at once. A function that opens one
    is called in a thread when the application starts (its lifespan); ``/readyz`` says when that is
    done, and the application closes it. ``settings`` of the address are for ``birefnet serve``
    alone, but ``host`` decides under which names it may be asked.
    """
    settings = settings or Settings()
    service = Service(matting, settings)

    @asynccontextmanager
    async def live(app: FastAPI) -> AsyncIterator[None]:
        service.life.start()
        try:
            yield
        finally:
            await service.life.stop()

    app = FastAPI(
        title="birefnet",
        version=_version(),
        description="Cuts pictures out of their background.",
        lifespan=live,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.page else None,
        # A second address for every route helps nobody.
        redirect_slashes=False,
    )
    app.state.service = service
    for module in (v1, removebg, rembg, health):
        app.include_router(module.router(service))
    if settings.page:
        app.include_router(page.router(app))
    _add_layers(app, service)
    return app


def _add_layers(app: FastAPI, service: Service) -> None:
    app.add_exception_handler(HTTPException, _no_route)
    # The last one added is the outermost.
    app.add_middleware(Gate, service=service)
    if service.settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type", "X-Api-Key", "Authorization", "X-Request-Id"],
            expose_headers=_HEARD,
            max_age=_REMEMBERED,
        )


async def _no_route(request: Request, error: Exception) -> Response:
    """What the router says where there is no route, in the dialect of the path."""
    assert isinstance(error, HTTPException)
    service: Service = request.app.state.service
    problem = Problem("not_found", "There is nothing under this path: see /docs.")
    if error.status_code == 405:
        message = "This path does not have this method: see /docs."
        problem = Problem("method_not_allowed", message, {"Allow": _methods(request)})
    return service.render(problem, call_of(request))


def _methods(request: Request) -> str:
    """All methods of a path: the router names those of one route, and some paths have two."""
    found = [
        method
        for method in _METHODS
        for route in request.app.router.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    ]
    return ", ".join(found)


def _version() -> str:
    try:
        return metadata.version("birefnet-trt")
    except metadata.PackageNotFoundError:
        return "unknown"
