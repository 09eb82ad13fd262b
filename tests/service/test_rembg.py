"""rembg's server: its fields, its answers, its errors."""

from __future__ import annotations

import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from birefnet_runtime.async_matting import AsyncMatting
from birefnet_runtime.serve.app import create_app
from birefnet_runtime.serve.routes.rembg import PATH
from birefnet_runtime.serve.settings import Settings
from helpers.asking import Asker
from helpers.pictures import Pixels, decoded, disc, encoded

PICTURE = encoded(disc(600, 800))


def sent(ask: Asker, query: str = "", picture: bytes = PICTURE, **fields: Any) -> httpx.Response:
    return ask("POST", f"{PATH}{query}", files={"file": ("a.png", picture)}, data=fields)


def result(answer: httpx.Response) -> Pixels:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return decoded(answer.content)


def test_a_file_becomes_a_cut_out_of_its_own_size(ask: Asker) -> None:
    answer = sent(ask)
    pixels = result(answer)
    assert pixels.shape == (600, 800, 4)
    assert pixels[300, 400].tolist() == [240, 220, 200, 255]
    assert pixels[0, 0, 3] == 0
    assert "x-ignored" not in answer.headers


def test_only_the_mask_is_given_where_it_is_asked_for(ask: Asker) -> None:
    cutout = result(sent(ask))
    np.testing.assert_array_equal(result(sent(ask, om="true")), cutout[..., 3])
    answer = sent(ask, "?om=true&bgc=1,2,3,255")
    assert result(answer).ndim == 2
    assert answer.headers["x-ignored"] == "bgc"


@pytest.mark.parametrize("colour", [(10, 20, 30, 255), (10, 20, 30, 128), (10, 20, 30, 0)])
def test_a_colour_lies_behind_as_rembg_puts_it(
    ask: Asker, colour: tuple[int, int, int, int]
) -> None:
    # rembg's client sends it in the query, others in the form.
    text = ",".join(map(str, colour))
    found = result(sent(ask, f"?bgc={text}"))
    np.testing.assert_array_equal(result(sent(ask, bgc=text)), found)
    # Its own way: Pillow's composition over a canvas of that colour.
    cutout = Image.open(io.BytesIO(sent(ask).content))
    ground = Image.new("RGBA", cutout.size, colour)
    np.testing.assert_array_equal(found, np.asarray(Image.alpha_composite(ground, cutout)))


def test_three_numbers_are_an_opaque_colour(ask: Asker) -> None:
    assert result(sent(ask, bgc="1, 2, 3"))[0, 0].tolist() == [1, 2, 3, 255]


def test_what_has_no_meaning_here_is_named(ask: Asker) -> None:
    fields: dict[str, Any] = {
        "model": "u2net",
        "a": "true",
        "af": "240",
        "ab": "10",
        "ae": "10",
        "dc": "true",
    }
    answer = sent(ask, ppm="true", vm="true", extras='{"model_path": "/etc/passwd"}', **fields)
    assert answer.status_code == 200
    assert answer.headers["x-ignored"] == "model, af, ab, ae, extras, ppm, vm"
    assert "x-ignored" not in sent(ask, a="true", dc="true", ppm="false", vm="false").headers


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"a": "perhaps"}, "a"),
        ({"om": "2"}, "om"),
        ({"af": "256"}, "af"),
        ({"ab": "-1"}, "ab"),
        ({"ae": "many"}, "ae"),
        ({"ppm": "x"}, "ppm"),
        ({"bgc": "red"}, "bgc"),
        ({"bgc": "1,2"}, "bgc"),
        ({"bgc": "1,2,3,256"}, "bgc"),
        ({"bgc": "1,2,3," + "9" * 5000}, "bgc"),
        ({"colour": "1,2,3"}, "colour"),
    ],
)
def test_malformed_values_are_refused_in_fastapi_s_form(
    ask: Asker, fields: dict[str, Any], name: str
) -> None:
    answer = sent(ask, **fields)
    assert answer.status_code == 400
    assert name in answer.json()["detail"]


def test_what_is_no_picture_is_refused(ask: Asker, matting: AsyncMatting) -> None:
    answer = sent(ask, picture=b"no picture")
    assert answer.status_code == 415
    assert "picture" in answer.json()["detail"]
    assert "file" in ask("POST", PATH).json()["detail"]
    small = Asker(create_app(matting, Settings(max_pixels=1000)))
    assert sent(small).status_code == 413
    locked = Asker(create_app(matting, Settings(keys=("secret",))))
    assert sent(locked).status_code == 401
    assert set(sent(locked).json()) == {"detail"}


def test_a_url_is_refused_unless_fetching_is_on(
    ask: Asker, matting: AsyncMatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = ask("GET", PATH, params={"url": "http://x.test/a.png"})
    assert answer.status_code == 403
    assert "fetch" in answer.json()["detail"]
    assert ask("GET", PATH).status_code == 400
    app = create_app(matting, Settings(fetch=True))

    async def fetch(url: str) -> bytes:
        assert url == "http://x.test/a.png"
        return PICTURE

    monkeypatch.setattr(app.state.service, "fetch", fetch)
    found = Asker(app)("GET", PATH, params={"url": "http://x.test/a.png", "om": "true"})
    np.testing.assert_array_equal(result(found), result(sent(ask, om="true")))
