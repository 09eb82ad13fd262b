"""The application: its life from loading to the end, its pages, its errors, its description."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from birefnet_runtime.async_matting import AsyncMatting
from birefnet_runtime.errors import ModelError
from birefnet_runtime.serve.app import create_app
from birefnet_runtime.serve.life import Life, State
from birefnet_runtime.serve.service import Service
from birefnet_runtime.serve.settings import Settings
from helpers.asgi import Exchange, eventually
from helpers.asking import Asker
from helpers.gate import SOON
from helpers.pictures import disc, encoded

PNG = encoded(disc(16, 16))


async def get(app: Any, path: str) -> tuple[int, Any]:
    exchange = Exchange(app, "GET", path)
    await exchange.end()
    return exchange.status, json.loads(exchange.body)


async def post(app: Any) -> Exchange:
    exchange = Exchange(app, content_type="image/png", content_length=str(len(PNG)))
    exchange.feed(PNG)
    await exchange.end()
    return exchange


def alive(
    opener: Callable[[], AsyncMatting], main: Callable[[FastAPI, Life], Awaitable[None]]
) -> None:
    """``main`` while an application lives that opens its model itself."""

    async def all_of_it() -> None:
        app = create_app(opener)
        async with app.router.lifespan_context(app):
            await main(app, app.state.service.life)

    asyncio.run(asyncio.wait_for(all_of_it(), SOON))


def test_it_answers_while_the_model_is_loaded(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, warmed = threading.Event(), asyncio.Event()
    opened: list[AsyncMatting] = []
    warm_up = AsyncMatting.warm_up

    async def slow(self: AsyncMatting) -> None:
        await warmed.wait()
        await warm_up(self)

    def opener() -> AsyncMatting:
        assert loaded.wait(SOON)
        opened.append(AsyncMatting.open(tiny, "cpu", threads=1))
        return opened[0]

    async def main(app: FastAPI, life: Life) -> None:
        nothing = {"ready": False, "model": None, "device": None}
        assert await get(app, "/readyz") == (503, {**nothing, "state": "loading"})
        assert await get(app, "/healthz") == (200, {"alive": True})
        assert (await get(app, "/v1/info"))[1]["model"] is None
        early = await post(app)
        assert (early.status, early.code) == (503, "not_ready")
        assert early.headers["retry-after"] == "2"
        loaded.set()
        await eventually(lambda: life.state is State.WARMING)
        found = {"ready": False, "state": "warming", "model": "tiny", "device": "cpu"}
        assert await get(app, "/readyz") == (503, found)
        assert (await post(app)).code == "not_ready"
        warmed.set()
        await eventually(lambda: life.state is State.READY)
        found = {"ready": True, "state": "ready", "model": "tiny", "device": "cpu"}
        assert await get(app, "/readyz") == (200, found)
        info = (await get(app, "/v1/info"))[1]
        assert (info["height"], info["width"], info["key"]) == (32, 32, False)
        assert {"png", "jpeg", "webp"} <= set(info["formats"]["in"])
        assert "avif" in info["formats"]["out"] and "auto" not in info["formats"]["out"]
        assert (await post(app)).status == 200
        # The runs of its model are counted from the first one on.
        assert app.state.service.metrics.registry.get_sample_value("birefnet_run_pictures_count")

    monkeypatch.setattr(AsyncMatting, "warm_up", slow)
    alive(opener, main)
    # What it opened it has closed.
    with pytest.raises(Exception, match="close"):
        opened[0].matting.remove(PNG)


def test_a_model_that_does_not_load() -> None:
    def opener() -> AsyncMatting:
        raise ModelError("a secret path")

    async def main(app: FastAPI, life: Life) -> None:
        await eventually(lambda: life.state is State.FAILED)
        assert isinstance(life.fault, ModelError)
        found = {"ready": False, "state": "failed", "model": None, "device": None}
        assert await get(app, "/readyz") == (503, found)
        assert (await get(app, "/healthz"))[0] == 200
        refused = await post(app)
        assert refused.code == "not_ready" and b"secret" not in refused.body

    alive(opener, main)


def test_a_warm_up_that_fails(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: AsyncMatting) -> None:
        raise ModelError("gives no alpha")

    async def main(app: FastAPI, life: Life) -> None:
        await eventually(lambda: life.state is State.FAILED)
        assert str(life.fault) == "gives no alpha"

    monkeypatch.setattr(AsyncMatting, "warm_up", fail)
    alive(lambda: AsyncMatting.open(tiny, "cpu", threads=1), main)


def test_one_that_ends_while_it_loads(tiny: Path) -> None:
    loaded, opened = threading.Event(), threading.Event()
    made: list[AsyncMatting] = []

    def opener() -> AsyncMatting:
        assert loaded.wait(SOON)
        made.append(AsyncMatting.open(tiny, "cpu", threads=1))
        opened.set()
        return made[0]

    async def main(app: FastAPI, life: Life) -> None:
        assert life.is_opening

    alive(opener, main)
    loaded.set()
    assert opened.wait(SOON)
    # Nobody takes the model any more, so it is closed where it was opened.
    asyncio.run(eventually(lambda: made[0]._batcher._closed))


def test_an_open_model_stays_its_owner_s(matting: AsyncMatting) -> None:
    async def main() -> None:
        app = create_app(matting)
        async with app.router.lifespan_context(app):
            assert (await post(app)).status == 200
        assert (await matting.remove(PNG)).alpha.shape == (16, 16)

    asyncio.run(main())


def test_inside_another_application(matting: AsyncMatting) -> None:
    outer = FastAPI()
    outer.mount("/cutouts", create_app(matting, Settings(keys=("key",))))
    ask = Asker(outer)
    assert ask("GET", "/cutouts/readyz").json()["ready"] is True
    headers = {"X-Api-Key": "key"}
    files = {"image": PNG}
    assert ask("POST", "/cutouts/v1/remove", files=files, headers=headers).status_code == 200
    assert ask("POST", "/cutouts/v1/remove", files=files).status_code == 401
    # remove.bg's errors, which go by the path.
    refused = ask("POST", "/cutouts/v1.0/removebg", headers=headers)
    assert "errors" in refused.json()


def test_the_page(ask: Asker) -> None:
    page = ask("GET", "/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    script = ask("GET", "/page/page.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    tag = script.headers["etag"]
    again = ask("GET", "/page/page.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    changed = ask("GET", "/page/page.js", headers={"If-None-Match": '"other"'})
    assert changed.content == script.content


@pytest.mark.parametrize(
    "name",
    [
        "../app.py",
        "..%2fapp.py",
        "%2e%2e/app.py",
        "..\\app.py",
        "/etc/hostname",
        "page.js%00",
        "PAGE.JS",
        "",
        ".",
        "__init__.py",
    ],
)
def test_no_path_leads_out_of_the_page(ask: Asker, name: str) -> None:
    answer = ask("GET", f"/page/{name}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_the_description(ask: Asker) -> None:
    document = ask("GET", "/openapi.json").json()
    assert "/v1/remove" in document["paths"] and "/" not in document["paths"]
    manual = ask("GET", "/docs")
    assert manual.headers["content-type"] == "text/html; charset=utf-8"
    for text in ("POST /v1/remove", "background_image", "X-Uncertainty-Score", "curl -F", "504"):
        assert text in manual.text, text
    assert "<script" not in manual.text and "://" not in manual.text.replace("http://127.0.0.1", "")
    assert ask("GET", "/page/manual/style").headers["content-type"] == "text/css; charset=utf-8"


def test_without_the_page(matting: AsyncMatting) -> None:
    ask = Asker(create_app(matting, Settings(page=False)))
    for path in ("/", "/docs", "/openapi.json", "/page/page.js"):
        assert ask("GET", path).status_code == 404, path


def test_other_paths_and_methods(ask: Asker) -> None:
    none = ask("GET", "/v2/remove")
    assert (none.status_code, none.json()["error"]["code"]) == (404, "not_found")
    assert none.headers["x-content-type-options"] == "nosniff"
    wrong = ask("GET", "/v1/remove")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    # Nothing is served under a second name.
    assert ask("POST", "/v1/remove/").status_code == 404


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "birefnet.serve"):
        yield caplog


def test_a_fault_of_ours_says_nothing_but_the_id(
    matting: AsyncMatting, log: pytest.LogCaptureFixture
) -> None:
    app = create_app(matting)

    @app.get("/broken")
    async def broken(request: Request) -> Response:
        raise RuntimeError("a secret")

    answer = Asker(app)("GET", "/broken", headers={"X-Request-Id": "abc-1"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    error = answer.json()["error"]
    assert (error["code"], error["id"]) == ("internal", "abc-1")
    faults = [record for record in log.records if record.levelno == logging.ERROR]
    assert ["abc-1" in record.getMessage() for record in faults] == [True]
    assert faults[0].exc_info is not None and "a secret" in str(faults[0].exc_info[1])


def test_one_line_of_log_for_each_request(ask: Asker, log: pytest.LogCaptureFixture) -> None:
    headers = {"X-Api-Key": "secret-key"}
    files = {"image": ("secret-name.png", PNG)}
    answer = ask("POST", "/v1/remove?crop=true", files=files, headers=headers)
    ask("GET", "/healthz")
    lines = [json.loads(record.getMessage()) for record in log.records]
    assert [line["route"] for line in lines] == ["/v1/remove", "/healthz"]
    first = lines[0]
    assert (first["id"], first["status"]) == (answer.headers["x-request-id"], 200)
    assert (first["picture"], first["out"]) == ("16x16", len(answer.content))
    assert first["in"] > len(PNG) and first["ms"] > 0
    assert "secret" not in log.text and "crop" not in log.text


def test_routes_see_the_service(matting: AsyncMatting) -> None:
    service = create_app(matting).state.service
    assert isinstance(service, Service) and service.is_ready
