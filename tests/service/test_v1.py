"""``/v1/remove`` and ``/remove_background``: what comes back, and what is refused."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from birefnet_runtime import Options
from birefnet_runtime.async_matting import AsyncMatting
from birefnet_runtime.serve.answer import disposition
from birefnet_runtime.serve.app import create_app
from birefnet_runtime.serve.describe import FIELDS
from birefnet_runtime.serve.fields import READERS
from birefnet_runtime.serve.settings import Settings
from helpers.asking import Asker
from helpers.pictures import decoded, disc, encoded, noise, png_16_bit, png_of_size

PATH = "/v1/remove"
PNG = encoded(disc())


def post(ask: Asker, picture: bytes = PNG, **fields: str) -> httpx.Response:
    return ask("POST", PATH, files={"image": ("a.png", picture)}, data=fields)


def refused(answer: httpx.Response, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["id"] == answer.headers["x-request-id"]
    return str(error["message"])


def test_every_form_gives_what_the_library_gives(ask: Asker, matting: AsyncMatting) -> None:
    wanted = matting.matting.remove(PNG).encode(".png")
    text = base64.b64encode(PNG).decode()
    raw = {"Content-Type": "image/png"}
    for answer in (
        post(ask),
        ask("POST", PATH, json={"image": text}),
        ask("POST", PATH, data={"image": text}),
        ask("POST", PATH, content=PNG, headers=raw),
        ask("POST", "/remove_background", files={"image": PNG}),
    ):
        assert answer.status_code == 200, answer.text
        assert answer.content == wanted
        assert answer.headers["content-type"] == "image/png"


def test_headers(ask: Asker, matting: AsyncMatting) -> None:
    cutout = matting.matting.remove(PNG)
    answer = post(ask, crop="true", margin="2px")
    assert cutout.box is not None
    size = decoded(answer.content).shape
    assert size[0] == cutout.box.height + 4
    found = {name: answer.headers[f"x-{name}"] for name in ("height", "width", "edge")}
    assert found == {"height": str(size[0]), "width": str(size[1]), "edge": "single"}
    names = ("top", "left", "height", "width")
    box = tuple(int(answer.headers[f"x-foreground-{name}"]) for name in names)
    assert box == (cutout.box.top, cutout.box.left, *cutout.box.size)
    assert answer.headers["x-foreground-found"] == "true"
    # As many digits as the header has.
    assert float(answer.headers["x-foreground-share"]) == pytest.approx(
        cutout.score.share, abs=1e-4
    )
    assert float(answer.headers["x-uncertainty-score"]) == pytest.approx(
        cutout.score.uncertainty, abs=1e-4
    )
    steps = [part.split(";")[0] for part in answer.headers["server-timing"].split(", ")]
    assert steps == ["queue", "decode", "preprocess", "model", "refine", "encode"]
    assert answer.headers["content-disposition"] == 'inline; filename="a-cutout.png"'
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_nothing_found(ask: Asker) -> None:
    answer = post(ask, encoded(np.zeros((20, 20, 3), np.uint8)))
    assert answer.headers["x-foreground-found"] == "false"
    assert "x-foreground-top" not in answer.headers


def test_json(ask: Asker) -> None:
    accept = {"Accept": "text/html, application/json;q=0.9", "X-Request-Id": "mine-1"}
    answer = ask("POST", PATH, files={"image": PNG}, headers=accept)
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert base64.b64decode(found["image"]) == post(ask).content
    assert (found["format"], found["width"], found["height"]) == ("png", 64, 48)
    assert found["foreground"].keys() == {"top", "left", "width", "height"}
    assert found["found"] is True and found["edge"] == "single" and found["id"] == "mine-1"
    assert 0 < found["share"] < 1 and 0 < found["uncertainty"] < 1
    assert found["timings"].keys() == {
        "queue", "decode", "preprocess", "model", "refine", "encode",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "kind", "mode"),
    [
        ({}, "PNG", "RGBA"),
        ({"output": "alpha"}, "PNG", "L"),
        ({"output": "foreground"}, "JPEG", "RGB"),
        ({"background": "white"}, "JPEG", "RGB"),
        ({"background": "#f0f", "format": "png"}, "PNG", "RGB"),
        ({"background": "blur", "format": "webp", "quality": "80"}, "WEBP", "RGB"),
        ({"format": "webp"}, "WEBP", "RGBA"),
        ({"format": "tiff", "output": "premultiplied"}, "TIFF", "RGBA"),
        ({"format": "avif"}, "AVIF", "RGBA"),
    ],
)
def test_formats(ask: Asker, fields: dict[str, str], kind: str, mode: str) -> None:
    answer = post(ask, PNG, **fields)
    assert answer.status_code == 200, answer.text
    image = Image.open(io.BytesIO(answer.content))
    assert (image.format, image.mode, image.size) == (kind, mode, (64, 48))
    assert answer.headers["content-type"] == Image.MIME[kind]


def test_zip(ask: Asker) -> None:
    answer = post(ask, format="zip")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.content.startswith(b"PK")


# As an option of the library, by field and text.
ASKED: list[tuple[str, str, dict[str, Any]]] = [
    ("edge", "zoom", {"edge": "zoom"}),
    ("fit", "pad", {"fit": "pad"}),
    ("foreground", "blur", {"foreground": "blur"}),
    ("guided", "yes", {"guided": True}),
    ("feather", "1.5", {"feather": 1.5}),
    ("levels", "0.2, 0.8", {"levels": (0.2, 0.8)}),
    ("offset", "-2", {"offset": -2}),
    ("despill", "green", {"despill": "green"}),
    ("clear", "0", {"clear": False}),
    ("depth", "16", {"depth": 16}),
    ("background", "checker", {"background": "checker"}),
]


@pytest.mark.parametrize(("name", "text", "options"), ASKED)
def test_options_are_the_library_s(
    ask: Asker, matting: AsyncMatting, name: str, text: str, options: dict[str, Any]
) -> None:
    picture = png_16_bit(noise(40, 50).astype(np.uint16) * 257)
    wanted = matting.matting.remove(picture, Options(**options)).encode(".png")
    # As a field, and as a query parameter.
    assert post(ask, picture, **{name: text, "format": "png"}).content == wanted
    query = httpx.QueryParams({name: text, "format": "png"})
    raw = {"Content-Type": "image/png"}
    assert ask("POST", f"{PATH}?{query}", content=picture, headers=raw).content == wanted


def test_every_field_is_described() -> None:
    assert FIELDS.keys() == READERS.keys()


def test_a_smaller_size(ask: Asker) -> None:
    large = encoded(disc(1200, 1600))
    small = decoded(post(ask, large, size="preview").content)
    # A quarter of a megapixel, of the same shape within the rounding of a side.
    assert small.shape[0] * small.shape[1] <= 250_000
    assert small.shape[:2] == pytest.approx((433, 577), abs=1)
    assert decoded(post(ask, large, size="0.01").content).shape[0] < 100
    assert decoded(post(ask, size="full").content).shape == (48, 64, 4)
    assert decoded(post(ask, size="hd").content).shape == (48, 64, 4)


def test_a_picture_as_background(ask: Asker) -> None:
    red = encoded(np.full((30, 30, 3), (250, 0, 0), np.uint8))
    files = {"image": PNG, "background_image": red}
    answer = ask("POST", PATH, files=files, data={"format": "png"})
    assert decoded(answer.content)[0, 0].tolist() == [250, 0, 0]
    both = ask("POST", PATH, files=files, data={"background": "white"})
    assert "not both" in refused(both, 400, "bad_option")
    broken = ask("POST", PATH, files={"image": PNG, "background_image": b"no picture"})
    assert refused(broken, 415, "not_a_picture").startswith("The background picture is none of")
    # 144 megapixels, which the picture itself would not be allowed either.
    bomb = ask("POST", PATH, files={"image": PNG, "background_image": png_of_size(12000, 12000)})
    assert refused(bomb, 413, "too_large").startswith("The background picture has more pixels")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("background", "white.png"),
        ("background", "/etc/hostname"),
        ("background", "../a.png"),
        ("background", "rgb(1.5,2,3).png"),
        ("background", "#12345"),
        ("background", ""),
        ("output", "RGBA"),
        ("format", "gif"),
        ("format", "jpg"),
        ("crop", "maybe"),
        ("margin", "-1px"),
        ("margin", "1e308%"),
        ("margin", "5em"),
        ("edge", "hr"),
        ("feather", "nan"),
        ("feather", "101"),
        ("feather", "1_0"),
        ("levels", "0.9,0.1"),
        ("levels", "1"),
        ("offset", "1.5"),
        ("offset", "9" * 400),
        ("quality", "0"),
        ("depth", "10"),
        ("size", "huge"),
        ("size", "0"),
        ("size", "-1"),
        ("keep_gps", "true"),
        ("max_pixels", "1"),
        ("model", "/etc/hostname"),
    ],
)
def test_options_without_meaning(ask: Asker, name: str, text: str) -> None:
    message = refused(post(ask, PNG, **{name: text}), 400, "bad_option")
    assert name in message
    assert len(message) < 400


def test_formats_that_do_not_fit(ask: Asker) -> None:
    assert "zip" in refused(post(ask, format="zip", output="alpha"), 400, "bad_option")
    assert "depth" in refused(post(ask, format="webp", depth="16"), 400, "bad_option")
    assert "mask" in refused(post(ask, output="alpha", background="white"), 400, "bad_option")


def test_pictures_that_cannot_be_used(ask: Asker) -> None:
    assert "is none of" in refused(post(ask, b"no picture"), 415, "not_a_picture")
    assert "is empty" in refused(post(ask, b""), 415, "not_a_picture")
    assert "damaged" in refused(post(ask, PNG[:100]), 415, "not_a_picture")
    # By its header: 100 megapixels are above the limit of 64, and there is hardly any data.
    large = refused(post(ask, png_of_size(10_000, 10_000)), 413, "too_large")
    assert "64000000" in large
    assert "Give the picture" in refused(ask("POST", PATH), 400, "bad_request")
    none = ask("POST", "/remove_background", files={"file": PNG})
    assert "'file'" in refused(none, 400, "bad_option")
    none = ask("POST", "/remove_background")
    assert "Give the picture" in refused(none, 400, "bad_request")


def test_only_the_first_frame_of_an_animation(ask: Asker) -> None:
    frames = [Image.fromarray(disc()), Image.fromarray(noise(48, 64))]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert post(ask, gif).content == post(ask, encoded(Image.open(io.BytesIO(gif)), "PNG")).content


def test_the_place_never_stays(ask: Asker) -> None:
    tags = Image.Exif()
    # Artist, and latitude within the place's own directory (EXIF 2.32, 4.6.4 and 4.6.6).
    tags[0x013B] = "somebody"
    tags.get_ifd(0x8825)[2] = (52.0, 30.0, 0.0)
    photo = encoded(disc(), "JPEG", exif=tags)
    kept = Image.open(io.BytesIO(post(ask, photo, keep_exif="true").content)).getexif()
    assert kept[0x013B] == "somebody" and not kept.get_ifd(0x8825)
    assert not Image.open(io.BytesIO(post(ask, photo).content)).getexif()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.jpg", "a"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a b.jpeg", "a_b"),
        ('x"\r\nSet-Cookie: a=b.png', "x_Set-Cookie_a_b"),
        ("Käse.png", "K_se"),
        ("..", "picture"),
        (".png", "png"),
        ("", "picture"),
        ("日本.png", "picture"),
        ("a" * 300, "a" * 100),
        (None, "picture"),
    ],
)
def test_names_of_files(name: str | None, wanted: str) -> None:
    assert disposition(name, ".png") == f'inline; filename="{wanted}-cutout.png"'


def test_request_ids(ask: Asker) -> None:
    for given in ("a b", "x" * 65, "a;b", "\xfc", "a\tb", ""):
        headers = {"X-Request-Id": given.encode("latin-1")}
        found = ask("GET", "/healthz", headers=headers).headers["x-request-id"]
        assert found != given and len(found) == 16
    assert ask("GET", "/healthz", headers={"X-Request-Id": "A-z_0.9"}).headers["x-request-id"] == (
        "A-z_0.9"
    )


def test_the_limit_of_pixels_is_the_service_s(matting: AsyncMatting) -> None:
    ask = Asker(create_app(matting, Settings(max_pixels=1000)))
    assert "1000" in refused(post(ask), 413, "too_large")
    plain = ask("POST", "/remove_background", files={"image": PNG})
    assert "1000" in refused(plain, 413, "too_large")
    assert post(ask, encoded(disc(20, 20))).status_code == 200


def test_json_numbers_and_booleans(ask: Asker) -> None:
    body = {"image": base64.b64encode(PNG).decode(), "crop": True, "feather": 1, "offset": 2.0}
    answer = ask("POST", PATH, json=body)
    assert answer.content == post(ask, crop="true", feather="1", offset="2").content
    assert json.loads(ask("POST", PATH, json={"image": 5}).text)["error"]["code"] == "bad_request"
