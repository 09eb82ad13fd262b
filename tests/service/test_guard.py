"""Who may ask: keys, the service's own names, pages of other origins."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from birefnet_runtime.async_matting import AsyncMatting
from birefnet_runtime.errors import OptionError
from birefnet_runtime.serve.app import create_app
from birefnet_runtime.serve.settings import Settings
from helpers.asking import Asker
from helpers.pictures import disc, encoded

FILES = {"image": encoded(disc(16, 16))}
PATH = "/v1/remove"
KEY, OTHER = "first-key", "second+key/=="


def asker(matting: AsyncMatting, **settings: Any) -> Asker:
    return Asker(create_app(matting, Settings(**settings)))


def code(answer: httpx.Response) -> str:
    return "" if answer.status_code == 200 else str(answer.json()["error"]["code"])


@pytest.fixture(scope="module")
def locked(matting: AsyncMatting) -> Asker:
    return asker(matting, keys=(KEY, OTHER))


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Api-Key": KEY},
        {"X-Api-Key": OTHER},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer  {OTHER}"},
    ],
)
def test_a_key_opens(locked: Asker, headers: dict[str, str]) -> None:
    assert code(locked("POST", PATH, files=FILES, headers=headers)) == ""
    assert code(locked("GET", "/metrics", headers=headers)) == ""


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Api-Key": ""},
        {"X-Api-Key": KEY[:-1]},
        {"X-Api-Key": KEY + "x"},
        {"X-Api-Key": f"{KEY},{OTHER}"},
        {"X-Api-Key": b"\xff\xfe"},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer"},
        # The first of the two counts.
        {"X-Api-Key": "wrong", "Authorization": f"Bearer {KEY}"},
    ],
)
def test_nothing_else_does(locked: Asker, headers: dict[str, Any]) -> None:
    for method, path in (
        ("POST", PATH),
        ("GET", "/metrics"),
        ("GET", "/nothing"),
        ("GET", "/docs/"),
    ):
        answer = locked(method, path, headers=headers)
        assert (answer.status_code, code(answer)) == (401, "unauthorized"), path
        assert answer.headers["www-authenticate"] == "Bearer"
        assert KEY not in answer.text


def test_what_needs_no_key(locked: Asker) -> None:
    for path in ("/", "/healthz", "/readyz", "/v1/info", "/docs", "/openapi.json", "/page/page.js"):
        assert locked("GET", path).status_code == 200, path
    assert locked("GET", "/v1/info").json()["key"] is True


def test_names_on_loopback(matting: AsyncMatting) -> None:
    ask = asker(matting, hosts=("Pictures.example",))
    for host in ("localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "pictures.EXAMPLE:80"):
        assert code(ask("GET", "/healthz", headers={"Host": host})) == "", host
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost:a", "[::2]", "", "10.0.0.1"):
        answer = ask("GET", "/healthz", headers={"Host": host})
        assert (answer.status_code, code(answer)) == (403, "forbidden"), host


def test_names_elsewhere(matting: AsyncMatting) -> None:
    anywhere = asker(matting, host="0.0.0.0", open=True)
    assert code(anywhere("GET", "/healthz", headers={"Host": "any.example"})) == ""
    named = asker(matting, host="0.0.0.0", open=True, hosts=("a.example",))
    assert code(named("GET", "/healthz", headers={"Host": "a.example"})) == ""
    assert code(named("GET", "/healthz", headers={"Host": "b.example"})) == "forbidden"


def test_pages_of_other_origins(matting: AsyncMatting) -> None:
    ask = asker(matting)
    for origin in ("http://evil.example", "null", "http://127.0.0.1:81", "https://evil.127.0.0.1"):
        answer = ask("POST", PATH, files=FILES, headers={"Origin": origin})
        assert (answer.status_code, code(answer)) == (403, "forbidden"), origin
        assert "access-control-allow-origin" not in answer.headers
    own = {"Origin": "http://127.0.0.1", "Host": "127.0.0.1"}
    assert code(ask("POST", PATH, files=FILES, headers=own)) == ""
    assert ask("OPTIONS", PATH, headers={"Origin": "http://evil.example"}).status_code == 403


def test_origins_that_were_allowed(matting: AsyncMatting) -> None:
    origin = "https://shop.example"
    ask = asker(matting, origins=(origin,), keys=(KEY,))
    headers = {"Origin": origin, "X-Api-Key": KEY}
    answer = ask("POST", PATH, files=FILES, headers=headers)
    assert code(answer) == ""
    assert answer.headers["access-control-allow-origin"] == origin
    assert "X-Foreground-Share" in answer.headers["access-control-expose-headers"]
    # It may read what went wrong, too.
    wrong = ask("POST", PATH, headers={"Origin": origin})
    assert (wrong.status_code, wrong.headers["access-control-allow-origin"]) == (401, origin)
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    preflight = ask("OPTIONS", PATH, headers={"Origin": origin, **asked})
    assert preflight.status_code == 200
    assert "access-control-allow-credentials" not in preflight.headers
    other = ask("OPTIONS", PATH, headers={"Origin": "https://evil.example", **asked})
    assert other.status_code == 400
    assert (
        code(ask("POST", PATH, headers={**headers, "Origin": "https://a.example"})) == "forbidden"
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"port": 65536}, "port"),
        ({"max_body": 0}, "max_body"),
        ({"max_body": 10, "memory": 5}, "memory"),
        ({"max_pixels": 10**9}, "max_pixels"),
        ({"seconds": 0.0}, "seconds"),
        ({"body_seconds": float("nan")}, "body_seconds"),
        ({"keys": ("a b",)}, "key 1"),
        ({"keys": ("a", "")}, "key 2"),
        ({"keys": ("a", "ü")}, "key 2"),
        ({"origins": ("*",)}, "origin"),
        ({"origins": ("https://*.example",)}, "origin"),
        ({"origins": ("https://a.example/",)}, "origin"),
        ({"origins": ("file://a",)}, "origin"),
    ],
)
def test_settings_without_meaning(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        Settings(**settings)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("a.example", False),
    ],
)
def test_addresses_that_others_reach_want_a_key(host: str, local: bool) -> None:
    Settings(host=host, keys=(KEY,)).check_access()
    Settings(host=host, open=True).check_access()
    assert Settings(host=host).local is local
    if local:
        Settings(host=host).check_access()
    else:
        with pytest.raises(OptionError, match="--no-key"):
            Settings(host=host).check_access()
