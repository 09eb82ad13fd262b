"""remove.bg's API: its fields, its answers, its errors."""

from __future__ import annotations

import base64
import io
import zipfile
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from birefnet_runtime.async_matting import AsyncMatting
from birefnet_runtime.errors import BusyError, DeadlineError
from birefnet_runtime.serve.app import create_app
from birefnet_runtime.serve.problem import CODES, Problem, as_problem
from birefnet_runtime.serve.routes import removebg
from birefnet_runtime.serve.routes.removebg_docs import RESPONSES
from birefnet_runtime.serve.settings import Settings
from helpers.asking import Asker
from helpers.pictures import SRGB, Pixels, decoded, disc, encoded

PATH = removebg.PATH
KEY = "secret"
HEIGHT, WIDTH = 48, 64
PICTURE = encoded(disc(HEIGHT, WIDTH))
# The disc's radius is a third of the height; the tiny model blurs its edge by some pixels.
TOP, LEFT, SIDE = 8, 16, 32
NEAR = 3


def sent(ask: Asker, picture: bytes = PICTURE, **fields: Any) -> httpx.Response:
    return ask("POST", PATH, files={"image_file": ("a.png", picture)}, data=fields)


def result(ask: Asker, picture: bytes = PICTURE, **fields: Any) -> Pixels:
    answer = sent(ask, picture, **fields)
    assert answer.status_code == 200, answer.text
    pixels = decoded(answer.content)
    assert answer.headers["x-width"] == str(pixels.shape[1])
    assert answer.headers["x-height"] == str(pixels.shape[0])
    return pixels


def refused(answer: httpx.Response, code: str, status: int = 400) -> str:
    """The title of an error, once its status and code were checked."""
    assert answer.status_code == status, answer.text
    (error,) = answer.json()["errors"]
    assert error["code"] == code
    return str(error["title"])


def box_of(alpha: Pixels) -> tuple[int, int, int, int]:
    """(top, left, height, width) round what is seen."""
    rows, columns = (np.flatnonzero(alpha.max(axis=axis) > 25) for axis in (1, 0))
    return (rows[0], columns[0], rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0])


def test_a_file_becomes_a_cut_out(ask: Asker) -> None:
    answer = sent(ask, type="person", format="png")
    headers = answer.headers
    assert answer.status_code == 200
    assert headers["content-type"] == "image/png"
    assert headers["x-type"] == "other"
    assert headers["x-credits-charged"] == "0"
    assert headers["x-ignored"] == "type"
    pixels = decoded(answer.content)
    assert pixels.shape == (HEIGHT, WIDTH, 4)
    assert pixels[HEIGHT // 2, WIDTH // 2].tolist() == [240, 220, 200, 255]
    assert pixels[0, 0, 3] == 0
    named = [int(headers[f"x-foreground-{side}"]) for side in ("top", "left", "height", "width")]
    assert named == list(box_of(pixels[..., 3]))
    np.testing.assert_allclose(named, [TOP, LEFT, SIDE, SIDE], atol=NEAR)


@pytest.mark.parametrize("form", ["data", "json"])
def test_base64_comes_as_a_form_and_as_json(ask: Asker, form: str) -> None:
    fields = {"image_file_b64": base64.b64encode(PICTURE).decode(), "size": "full"}
    answer = ask("POST", PATH, **{form: fields})
    assert answer.status_code == 200, answer.text
    np.testing.assert_array_equal(decoded(answer.content), result(ask, size="full"))
    assert "x-ignored" not in answer.headers


def test_json_is_given_to_who_asks_for_it(ask: Asker) -> None:
    answer = ask(
        "POST",
        PATH,
        files={"image_file": ("a.png", PICTURE)},
        data={"type_level": "none"},
        headers={"Accept": "application/json"},
    )
    data = answer.json()["data"]
    np.testing.assert_array_equal(decoded(base64.b64decode(data["result_b64"])), result(ask))
    for side in ("top", "left", "width", "height"):
        assert str(data[f"foreground_{side}"]) == answer.headers[f"x-foreground-{side}"]
    assert "x-type" not in answer.headers


@pytest.mark.parametrize(
    ("fields", "kind", "mode"),
    [
        ({}, "PNG", "RGBA"),
        ({"format": "webp"}, "WEBP", "RGBA"),
        ({"format": "jpg"}, "JPEG", "RGB"),
        ({"bg_color": "81d4fa"}, "JPEG", "RGB"),
        ({"bg_color": "81d4fa77"}, "PNG", "RGBA"),
        ({"bg_color": "green", "format": "png"}, "PNG", "RGB"),
        ({"channels": "alpha"}, "PNG", "L"),
        ({"channels": "alpha", "format": "jpg"}, "JPEG", "L"),
    ],
)
def test_the_format_suits_what_is_in_it(
    ask: Asker, fields: dict[str, Any], kind: str, mode: str
) -> None:
    answer = sent(ask, **fields)
    image = Image.open(io.BytesIO(answer.content))
    assert (image.format, image.mode) == (kind, mode)
    assert answer.headers["content-type"] == f"image/{kind.lower()}"


def test_a_zip_holds_colours_and_mask(ask: Asker) -> None:
    answer = sent(ask, format="zip")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["color.jpg", "alpha.png"]
        mask = decoded(archive.read("alpha.png"))
    np.testing.assert_array_equal(mask, result(ask)[..., 3])


def test_a_background_lies_behind(ask: Asker) -> None:
    cutout = result(ask)
    corner = result(ask, bg_color="#12345678", format="png")[0, 0]
    assert corner.tolist() == [0x12, 0x34, 0x56, 0x78]
    # JPEG without a background is on white, as far as its loss goes.
    assert result(ask, format="jpg")[0, 0].min() >= 250
    files = {
        "image_file": ("a.png", PICTURE),
        "bg_image_file": ("b.png", encoded(disc(9, 9) * 0 + 77)),
    }
    answer = ask("POST", PATH, files=files, data={"format": "png"})
    over = decoded(answer.content)
    assert over.shape == (HEIGHT, WIDTH, 3)
    assert over[0, 0].tolist() == [77, 77, 77]
    middle = (HEIGHT // 2, WIDTH // 2)
    np.testing.assert_array_equal(over[middle], cutout[middle][:3])


@pytest.mark.parametrize(
    ("size", "pixels"),
    [("preview", 250_000), ("small", 250_000), ("regular", 250_000), ("full", 0)],
)
def test_the_result_has_no_more_pixels_than_asked_for(ask: Asker, size: str, pixels: int) -> None:
    answer = sent(ask, encoded(disc(600, 800)), size=size)
    shape = decoded(answer.content).shape[:2]
    assert shape == (600, 800) if not pixels else 0.99 * pixels < shape[0] * shape[1] <= pixels
    # The box is in pixels of the picture that was sent: a radius of 200 round (300, 400).
    found = [
        int(answer.headers[f"x-foreground-{side}"]) for side in ("top", "left", "height", "width")
    ]
    # A pixel of the tiny model's 32 is 25 wide here.
    np.testing.assert_allclose(found, [100, 200, 400, 400], atol=60)


def test_the_default_size_is_the_preview(ask: Asker) -> None:
    picture = encoded(disc(600, 800))
    assert result(ask, picture).shape == result(ask, picture, size="preview").shape


def test_only_the_region_is_looked_at(ask: Asker) -> None:
    # Two discs side by side.
    pixels = np.hstack([disc(48, 48), disc(48, 48)])
    answer = sent(ask, encoded(pixels), roi="50% 0 100% 100%")
    found = decoded(answer.content)
    assert found.shape == (48, 96, 4)
    assert found[:, :48].max() == 0
    assert found[24, 72, 3] == 255
    assert int(answer.headers["x-foreground-left"]) >= 48
    both = result(ask, encoded(pixels))
    assert both[24, 24, 3] == 255


def test_a_region_and_a_preview_fit_each_other(ask: Asker) -> None:
    pixels = np.hstack([disc(600, 600), disc(600, 600)])
    found = result(ask, encoded(pixels), roi="600px 0px 1200px 600px")
    height, width = found.shape[:2]
    assert height * width <= 250_000
    assert abs(width / height - 2) < 0.01
    top, left, rows, columns = box_of(found[..., 3])
    # Off by a pixel of the tiny model's 32, two thirds of whose width remain in the preview.
    np.testing.assert_allclose(
        np.array([top, left, rows, columns]) * 1200 / width, [100, 700, 400, 400], atol=60
    )


def test_profile_and_resolution_stay_with_a_region(ask: Asker) -> None:
    picture = encoded(disc(), icc_profile=SRGB, dpi=(300, 300))
    for roi in ("", "0 0 90% 90%"):
        image = Image.open(io.BytesIO(sent(ask, picture, roi=roi).content))
        assert image.info["icc_profile"] == SRGB
        # PNG counts per metre.
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.02)


def test_a_crop_has_margins_beyond_the_picture(ask: Asker) -> None:
    bare = result(ask, crop="true")
    height, width = bare.shape[:2]
    np.testing.assert_allclose([height, width], [SIDE, SIDE], atol=NEAR)
    wide = result(ask, crop="true", crop_margin="30px 50%")
    assert wide.shape[:2] == (height + 60, width + 2 * round(width / 2))
    left = round(width / 2)
    np.testing.assert_array_equal(wide[30 : 30 + height, left : left + width], bare)
    assert wide[:30].max() == 0


def test_a_subject_is_scaled_and_centred(ask: Asker) -> None:
    pixels = disc(HEIGHT, WIDTH)
    # It lies on the left before.
    found = result(ask, encoded(np.hstack([pixels[:, 10:], pixels[:, :10]])), scale="50%")
    assert found.shape == (HEIGHT, WIDTH, 4)
    top, left, height, width = box_of(found[..., 3])
    # Half of the canvas's height, off by what resizing takes of a soft edge.
    assert abs(height - HEIGHT / 2) <= 2
    assert abs(top + height / 2 - HEIGHT / 2) <= 1
    assert abs(left + width / 2 - WIDTH / 2) <= 1


def test_a_subject_moves_to_its_position(ask: Asker) -> None:
    found = box_of(result(ask, position="100% 0%")[..., 3])
    assert found[0] == 0
    assert found[1] + found[3] == WIDTH


def test_what_has_no_effect_is_named(ask: Asker) -> None:
    answer = sent(ask, type="car", type_level="latest", crop_margin="5px")
    assert answer.headers["x-ignored"] == "type, type_level, crop_margin"
    assert sent(ask, crop="true", position="center").headers["x-ignored"] == "position"


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"size": "huge"}, "size"),
        ({"type": "dragon"}, "type"),
        ({"type_level": "3"}, "type_level"),
        ({"format": "gif"}, "format"),
        ({"channels": "rgb"}, "channels"),
        ({"roi": "1 2 3"}, "roi"),
        ({"roi": "0 0 0 0"}, "roi"),
        ({"crop": "perhaps"}, "crop"),
        ({"crop": "true", "crop_margin": "99%"}, "crop_margin"),
        ({"scale": "5%"}, "scale"),
        ({"position": "left"}, "position"),
        ({"bg_color": "/etc/passwd"}, "bg_color"),
        ({"bg_color": "x.png"}, "bg_color"),
        ({"bg_color": "red", "channels": "alpha"}, "bg_color"),
        ({"bg_color": "red", "format": "zip"}, "ZIP"),
        ({"channels": "alpha", "format": "zip"}, "ZIP"),
        ({"bg_color": "red", "bg_image_url": "http://x.test/"}, "bg_image_url"),
        ({"bg_image_url": "http://x.test/"}, "bg_image_url"),
        ({"add_shadow": "true"}, "add_shadow"),
        ({"shadow_type": "drop"}, "shadow_type"),
        ({"shadow_opacity": "50"}, "shadow_opacity"),
        ({"semitransparency": "false"}, "semitransparency"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_not_done_is_refused_by_name(
    ask: Asker, fields: dict[str, Any], names: str
) -> None:
    assert names.lower() in refused(sent(ask, **fields), "invalid_parameter").lower()


def test_off_and_empty_fields_are_no_wishes(ask: Asker) -> None:
    answer = sent(
        ask,
        add_shadow="false",
        shadow_type="none",
        semitransparency="true",
        bg_color="",
        bg_image_url="",
        type="auto",
        type_level="1",
        scale="original",
        position="original",
    )
    assert answer.status_code == 200
    assert "x-ignored" not in answer.headers


def test_exactly_one_source_is_taken(ask: Asker) -> None:
    refused(ask("POST", PATH, data={"size": "full"}), "missing_source")
    refused(ask("POST", PATH), "missing_source")
    both: dict[str, Any] = {"image_file_b64": base64.b64encode(PICTURE).decode()}
    refused(sent(ask, **both), "multiple_sources")
    title = refused(ask("POST", PATH, data={"image_url": "http://x.test/"}), "invalid_parameter")
    assert "image_url" in title


def test_a_url_is_fetched_where_that_is_on(
    matting: AsyncMatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(matting, Settings(fetch=True))
    asked: list[str] = []

    async def fetch(url: str) -> bytes:
        asked.append(url)
        return PICTURE

    monkeypatch.setattr(app.state.service, "fetch", fetch)
    urls = {"image_url": "http://x.test/a", "bg_image_url": "http://x.test/b"}
    answer = Asker(app)("POST", PATH, json=urls)
    assert answer.status_code == 200, answer.text
    assert asked == list(urls.values())
    assert answer.headers["content-type"] == "image/jpeg"


def test_bad_pictures_have_codes_of_their_own(ask: Asker, matting: AsyncMatting) -> None:
    assert "picture" in refused(sent(ask, b"no picture"), "invalid_file_type")
    refused(sent(ask, PICTURE[:-40]), "invalid_file_type")
    refused(sent(ask, encoded(disc() // 99)), "unknown_foreground")
    refused(sent(ask, encoded(disc() // 99), roi="0 0 50% 50%"), "unknown_foreground")
    small = Asker(create_app(matting, Settings(max_pixels=1000, max_body=100_000)))
    refused(sent(small), "resolution_too_high")
    refused(sent(small, bytes(100_001)), "file_too_large")
    files = {"image_file": ("a.png", PICTURE), "bg_image_file": ("b.png", b"nothing")}
    title = refused(ask("POST", PATH, files=files), "invalid_parameter")
    assert "background" in title


def test_a_key_is_asked_for_as_remove_bg_does(matting: AsyncMatting) -> None:
    locked = Asker(create_app(matting, Settings(keys=(KEY,))))
    for headers in ({}, {"X-Api-Key": "wrong"}):
        answer = locked("POST", PATH, files={"image_file": ("a.png", PICTURE)}, headers=headers)
        refused(answer, "auth_failed", 403)
    answer = locked(
        "POST", PATH, files={"image_file": ("a.png", PICTURE)}, headers={"X-Api-Key": KEY}
    )
    assert answer.status_code == 200


def test_the_core_s_errors_are_told_in_this_dialect(ask: Asker) -> None:
    refused(ask("GET", PATH), "method_not_allowed", 405)
    busy = removebg.render(as_problem(BusyError(3.2), 1), "id")
    assert busy.status_code == 429
    assert busy.headers["retry-after"] == "4"
    late = removebg.render(as_problem(DeadlineError("late"), 1), "id")
    assert late.status_code == 504
    fault = removebg.render(as_problem(RuntimeError("/a/secret/path"), 1), "id")
    assert (fault.status_code, b"secret" in bytes(fault.body)) == (500, False)
    for code in CODES:
        answer = removebg.render(Problem(code, "Why."), "id")
        assert answer.status_code in (*RESPONSES, 404, 405), code
