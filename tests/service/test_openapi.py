"""The service does what /openapi.json says of it, for every form of request, valid or not."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData
from starlette.types import ASGIApp, Receive, Scope, Send

from birefnet_runtime.async_matting import AsyncMatting
from birefnet_runtime.serve.app import create_app
from birefnet_runtime.serve.settings import Settings
from helpers.pictures import disc, encoded

KEY = "key-of-the-test"
PICTURE = encoded(disc())
# Fields that hold a picture, as a file or as text.
FIELDS = ("image", "background_image", "image_file", "image_file_b64", "bg_image_file", "file")
# Requests of each route beyond the systematic ones; all routes take about 15 s.
EXAMPLES = 5


class Late:
    """An application that is there when the test runs, not yet when it is collected, and does not
    end when a client, of which each request has its own, closes it."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})


def _never() -> AsyncMatting:
    raise AssertionError("nothing is opened to describe the service")


# Under any name, with a key.
SETTINGS = Settings(host="0.0.0.0", keys=(KEY,), max_pixels=1_000_000)
LATE = Late()
api = schemathesis.openapi.from_dict(create_app(_never, SETTINGS).openapi())
api.app = LATE


@pytest.fixture(autouse=True, scope="module")
def _application(matting: AsyncMatting) -> None:
    LATE.app = create_app(matting, SETTINGS)


@api.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_described(case: schemathesis.Case[Any]) -> None:
    _insert_pictures(case)
    reply = case.call(headers={"X-Api-Key": KEY})
    try:
        case.validate_response(reply, headers={"X-Api-Key": KEY})
    except BaseExceptionGroup as failures:
        rest = failures.split(_is_known)[1]
        if rest is not None:
            raise rest from None
        assert reply.status_code in (200, 400, 403, 415)


def _is_known(failure: BaseException) -> bool:
    """Whether it is none: which bytes are a picture, and which options contradict each other, no
    schema says; and values may be written otherwise, "5" for 5 or 0 for false."""
    if isinstance(failure, AcceptedNegativeData):
        return failure.message.endswith("Incorrect type")
    return isinstance(failure, RejectedPositiveData)


def _insert_pictures(case: schemathesis.Case[Any]) -> None:
    """Real ones where the description asks for some, so that answers with pictures are seen."""
    body: Any = case.body
    if isinstance(body, bytes) and not (case.media_type or "").startswith("application/x-www"):
        case.body = PICTURE
    elif isinstance(body, dict):
        for name in FIELDS:
            if isinstance(body.get(name), bytes):
                body[name] = PICTURE
            elif isinstance(body.get(name), str):
                body[name] = base64.b64encode(PICTURE).decode()
