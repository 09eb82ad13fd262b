"""The page in a real browser: pictures go in, cut-outs come out, and it says what is wrong."""

from __future__ import annotations

import base64
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Download, FilePayload, Locator, Page, Route, expect

from birefnet_runtime.serve.settings import Settings
from helpers.browsing import (
    DROP,
    FOCUSED,
    KEEP_URLS,
    NAMELESS,
    Host,
    Opened,
    chromium,
    hosted,
    pages,
)
from helpers.pictures import Pixels, decoded, disc, encoded
from helpers.tiny_onnx import write_model_folder

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 90, 120
DISC = encoded(disc(HEIGHT, WIDTH))
PHONE = {"width": 360, "height": 740}
KEY = "open-sesame"
# The colour that the page offers first.
ORANGE = (0xF2, 0xB8, 0x4B)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def host(model: Path) -> Iterator[Host]:
    with hosted(model, Settings(max_body=1 << 20)) as started:
        yield started


# Not for the whole run: while it is open its event loop counts as running in this thread.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def visit(browser: Browser) -> Iterator[Opened]:
    with pages(browser) as opener:
        yield opener


def picked(name: str, data: bytes = DISC) -> FilePayload:
    return {"name": name, "mimeType": "image/png", "buffer": data}


def add(page: Page, *names: str, data: bytes = DISC) -> None:
    page.set_input_files("#files", [picked(name, data) for name in names])


def row(page: Page, name: str) -> Locator:
    return page.locator("#list li").filter(has_text=name)


def done(page: Page, count: int = 1) -> None:
    expect(page.locator("li[data-state=done]")).to_have_count(count)
    expect(page.locator("#result")).to_be_visible()


def taken(page: Page, button: str) -> tuple[str, bytes]:
    """Name and bytes of the file that a click on ``button`` downloads."""
    with page.expect_download() as download:
        page.get_by_role("button", name=button, exact=True).click()
    found: Download = download.value
    return found.suggested_filename, Path(found.path()).read_bytes()


def choose(page: Page, background: str) -> None:
    page.get_by_role("radio", name=background, exact=True).check(force=True)


def answered(host: Host) -> bytes:
    answer = httpx.post(f"{host.url}/v1/remove", files={"image": ("a.png", DISC)})
    assert answer.status_code == 200
    return answer.content


def test_a_picture_is_picked_cut_out_and_downloaded(host: Host, visit: Opened) -> None:
    page = visit(host.url, accept_downloads=True)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose pictures").click()
    chooser.value.set_files([picked("ball.photo.png")])
    done(page)
    expect(page.locator("#score")).to_have_text(
        re.compile(rf"^Foreground \d+ %, edges .*sure, {WIDTH} \u00d7 {HEIGHT}$")
    )
    expect(page.locator("#live")).to_have_text(re.compile(r"^ball\.photo\.png: Foreground"))
    name, data = taken(page, "Download")
    assert name == "ball.photo-cutout.png"
    assert data == answered(host)
    pixels = decoded(data)
    assert pixels.shape == (HEIGHT, WIDTH, 4)
    assert pixels[HEIGHT // 2, WIDTH // 2, 3] == 255
    assert pixels[0, 0, 3] == 0


def test_what_a_right_click_saves_is_the_cut_out(host: Host, visit: Opened) -> None:
    page = visit(host.url)
    page.evaluate(KEEP_URLS)
    add(page, "a.png")
    done(page)
    box = page.locator("#view").bounding_box()
    assert box is not None
    at = [box["x"] + box["width"] * 0.6, box["y"] + box["height"] / 2 - 60]
    hit = page.evaluate("([x, y]) => document.elementFromPoint(x, y).id", at)
    assert hit == "result"
    read = """async () => {
        const bytes = await urls.get(document.getElementById("result").src).arrayBuffer();
        return btoa(String.fromCharCode(...new Uint8Array(bytes)));
    }"""
    assert base64.b64decode(page.evaluate(read)) == answered(host)


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_pictures_are_dropped_and_pasted(host: Host, visit: Opened, kind: str) -> None:
    page = visit(host.url)
    assert page.evaluate(DROP, [base64.b64encode(DISC).decode(), kind])
    done(page)
    expect(row(page, f"{kind}.png")).to_be_visible()


def test_the_divider_follows_pointer_and_keys(host: Host, visit: Opened) -> None:
    page = visit(host.url)
    add(page, "a.png")
    done(page)
    slider = page.get_by_role("slider")
    expect(slider).to_have_attribute("aria-valuenow", "50")
    slider.focus()
    for key, value in (("ArrowLeft", 48), ("Shift+ArrowRight", 58), ("Home", 0), ("End", 100)):
        page.keyboard.press(key)
        expect(slider).to_have_attribute("aria-valuenow", str(value))
    expect(slider).to_have_attribute("aria-valuetext", "100 % original, 0 % result")
    grip, shown = slider.bounding_box(), page.locator("#scene").bounding_box()
    assert grip is not None
    assert shown is not None
    page.mouse.move(grip["x"] + grip["width"] / 2, grip["y"] + 40)
    page.mouse.down()
    page.mouse.move(shown["x"] + shown["width"] / 4, grip["y"] + 60, steps=4)
    page.mouse.up()
    expect(slider).to_have_attribute("aria-valuenow", "25")
    for side in ("#original", "#result", "#behind"):
        expect(page.locator(side)).to_have_css("clip-path", re.compile(r"^inset\(.*px"))
    # Left of it the original is on top, right of it the result.
    top = "([x, y]) => document.elementFromPoint(x, y).id"
    for share, name in ((0.1, "original"), (0.4, "result")):
        at = [shown["x"] + shown["width"] * share, shown["y"] + 20]
        assert page.evaluate(top, at) == name


def test_zoom_goes_to_pixels(host: Host, visit: Opened) -> None:
    page = visit(host.url)
    add(page, "a.png")
    done(page)
    level, scene, view = (page.locator(name) for name in ("#zoom-value", "#scene", "#view"))
    page.get_by_role("button", name="1:1, every pixel").click()
    expect(level).to_have_text("100 %")
    box = scene.bounding_box()
    assert box is not None
    assert (round(box["width"]), round(box["height"])) == (WIDTH, HEIGHT)
    expect(scene).not_to_have_class(re.compile("squares"))
    view.focus()
    for _ in range(4):
        page.keyboard.press("+")
    expect(level).to_have_text("244 %")
    expect(page.locator("#result")).to_have_css("image-rendering", "pixelated")
    view.hover(position={"x": 60, "y": 60})
    page.mouse.wheel(0, -900)
    before = scene.bounding_box()
    page.mouse.down()
    page.mouse.move(300, 300)
    page.mouse.up()
    assert scene.bounding_box() != before
    page.keyboard.press("0")
    expect(page.get_by_role("button", name="Fit")).to_have_attribute("aria-pressed", "true")
    view.dblclick(position={"x": 300, "y": 60})
    expect(level).to_have_text("100 %")


def test_fingers_pinch_and_drag(host: Host, visit: Opened) -> None:
    page = visit(host.url, viewport=PHONE, has_touch=True)
    add(page, "a.png")
    done(page)
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        fingers.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": at})

    slider = page.get_by_role("slider")
    grip = slider.bounding_box()
    assert grip is not None
    middle, line = 180.0, grip["y"] + grip["height"] / 2
    touch("Start", (middle, line))
    touch("Move", (middle + 60, line))
    touch("End")
    expect(slider).not_to_have_attribute("aria-valuenow", "50")
    level = page.locator("#zoom-value")
    before = int(level.inner_text().split()[0])
    touch("Start", (60, line + 60), (100, line + 60))
    touch("Move", (40, line + 60), (100, line + 60))
    touch("Move", (40, line + 60), (120, line + 60))
    touch("End")
    # From 40 pixels apart to 80.
    assert abs(int(level.inner_text().split()[0]) - 2 * before) <= 2


def corner(pixels: Pixels) -> tuple[int, ...]:
    return tuple(pixels[2, 2].tolist())


def test_backgrounds_change_without_a_request(host: Host, visit: Opened) -> None:
    page = visit(host.url, accept_downloads=True)
    add(page, "a.png")
    done(page)
    posts: list[str] = []
    page.on("request", lambda request: posts.append(request.method))
    behind = page.locator("#behind")
    expect(behind).to_have_class(re.compile("checker"))
    choose(page, "Colour")
    expect(behind).to_have_css("background-color", "rgb(242, 184, 75)")
    expect(behind).not_to_have_class(re.compile("checker"))
    name, data = taken(page, "Download")
    pixels = decoded(data)
    assert (name, pixels.shape[:2], corner(pixels)[:3]) == ("a-cutout.png", (HEIGHT, WIDTH), ORANGE)
    page.get_by_label("Save as").select_option("JPEG")
    name, data = taken(page, "Download")
    assert (name, data[:3]) == ("a-cutout.jpg", b"\xff\xd8\xff")
    # JPEG rounds colours by some levels.
    assert np.abs(np.subtract(corner(decoded(data)), ORANGE)).max() <= 6
    blue = encoded(np.full((20, 50, 3), (0, 0, 200), np.uint8))
    with page.expect_file_chooser() as chooser:
        page.get_by_role("radio", name="Picture").click(force=True)
    chooser.value.set_files([picked("sky.png", blue)])
    expect(page.get_by_role("radio", name="Picture")).to_be_checked()
    page.get_by_label("Save as").select_option("PNG")
    assert corner(decoded(taken(page, "Download")[1]))[:3] == (0, 0, 200)
    choose(page, "Blur")
    # The disc's ground is 20 of 255 everywhere. One pixel above the disc it is 39, out of focus,
    # where the disc was taken out before, 83 where it is smeared.
    pixels = decoded(taken(page, "Download")[1])
    assert np.abs(pixels[2, :, :3].astype(int) - 20).max() <= 8
    assert pixels[HEIGHT // 2 - HEIGHT // 3 - 1, WIDTH // 2, :3].max() < 60
    choose(page, "Transparent")
    assert taken(page, "Download")[1] == answered(host)
    assert "POST" not in posts


def test_all_are_downloaded_as_one_archive(host: Host, visit: Opened) -> None:
    page = visit(host.url, accept_downloads=True)
    add(page, "a.png", "b.png", "ä.png", "a.jpg")
    done(page, 4)
    name, data = taken(page, "Download all 4")
    assert name == "cutouts.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        names = ["a-cutout.png", "b-cutout.png", "ä-cutout.png", "a-cutout-2.png"]
        assert archive.namelist() == names
        assert {archive.read(one) for one in names} == {answered(host)}


def test_bad_pictures_say_why_and_spoil_no_other(host: Host, visit: Opened) -> None:
    page = visit(host.url)
    add(page, "words.png", data=b"no picture at all")
    add(page, "vast.png", data=bytes((1 << 20) + 1))
    add(page, "good.png")
    done_row = row(page, "good.png")
    expect(done_row).to_have_attribute("data-state", "done")
    expect(row(page, "words.png")).to_contain_text("failed: The picture is none of JPEG, PNG")
    expect(row(page, "vast.png")).to_contain_text("too large: 1.0 MB, this server takes 1.0 MB")
    expect(page.locator("#tally")).to_have_text("1 of 3 done, 2 failed")
    expect(page.locator("#wait-text")).to_contain_text("Failed: The picture is none of")
    with page.expect_request("**/v1/remove"):
        page.get_by_role("button", name="Try words.png again").click()
    page.get_by_role("button", name="Remove words.png").click()
    expect(page.locator("#list li")).to_have_count(2)


def test_an_empty_picture_is_said_to_be_empty(host: Host, visit: Opened) -> None:
    page = visit(host.url)
    add(page, "night.png", data=encoded(np.zeros((40, 60, 3), np.uint8)))
    expect(row(page, "night.png")).to_contain_text("nothing found")
    expect(page.locator("#score")).to_contain_text("Nothing found")


def test_a_format_that_only_the_server_reads(host: Host, visit: Opened) -> None:
    page = visit(host.url)
    add(page, "scan.tif", data=encoded(disc(HEIGHT, WIDTH), "TIFF"))
    done(page)
    expect(page.locator("#original")).to_be_hidden()
    expect(page.locator("#divider")).to_be_hidden()
    expect(page.locator("#score")).to_contain_text("This browser cannot show the original.")
    choose(page, "Blur")
    expect(page.get_by_role("alert")).to_contain_text("cannot show scan.tif")


def test_options_go_with_the_request(host: Host, visit: Opened) -> None:
    page = visit(host.url)
    add(page, "a.png")
    done(page)
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Outline").select_option("zoom")
    page.get_by_label("Colours of the edge").select_option("off")
    page.evaluate("""() => {
        const append = FormData.prototype.append;
        window.fields = {};
        FormData.prototype.append = function (name, ...value) {
            fields[name] = String(value[0]);
            append.call(this, name, ...value);
        };
    }""")
    with page.expect_response("**/v1/remove") as answer:
        page.get_by_role("button", name="Cut out all again").click()
    assert answer.value.headers["x-edge"].startswith("zoom")
    sent = page.evaluate("fields")
    assert (sent["edge"], sent["foreground"], sent["format"]) == ("zoom", "off", "png")
    done(page)


def test_the_queue_waits_for_the_model(model: Path, visit: Opened) -> None:
    host = Host(model)
    host.release.clear()
    host.start()
    try:
        page = visit(host.url, ready=False)
        expect(page.get_by_role("alert")).to_contain_text("The server loads its model")
        expect(page.get_by_role("progressbar", name="Model")).to_be_visible()
        add(page, "a.png")
        expect(row(page, "a.png")).to_have_attribute("data-state", "waiting")
        host.release.set()
        done(page)
        expect(page.locator("#notice")).to_be_hidden()
        expect(page.locator("#server")).to_have_text(re.compile("on cpu$"))
    finally:
        host.stop()


def test_a_busy_server_is_asked_again(host: Host, visit: Opened) -> None:
    page = visit(host.url)
    body = '{"error": {"code": "busy", "message": "Too many pictures.", "id": "x"}}'

    def refuse(route: Route) -> None:
        route.fulfill(status=503, headers={"Retry-After": "2"}, body=body)

    page.route("**/v1/remove", refuse, times=1)
    add(page, "a.png")
    for seconds in (2, 1):
        expect(row(page, "a.png")).to_contain_text(f"server busy, again in {seconds} s")
    done(page)


def test_the_key_is_asked_for(model: Path, visit: Opened) -> None:
    with hosted(model, Settings(keys=(KEY,))) as host:
        page = visit(host.url)
        add(page, "a.png")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("This server asks for an API key")
        page.get_by_role("button", name="Not now").click()
        expect(row(page, "a.png")).to_contain_text("failed: no API key")
        page.get_by_role("button", name="Try a.png again").click()
        for key in ("wrong", KEY):
            expect(dialog).to_be_visible()
            page.get_by_label("API key", exact=True).fill(key)
            page.get_by_label("API key", exact=True).press("Enter")
        done(page)
        expect(dialog).to_be_hidden()
        page.reload()
        add(page, "b.png")
        done(page)


def test_a_server_that_goes_and_comes_back(model: Path, visit: Opened) -> None:
    with hosted(model) as host:
        page = visit(host.url)
        add(page, "a.png")
        done(page)
    add(page, "b.png")
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
    expect(row(page, "b.png")).to_have_attribute("data-state", "waiting")
    with hosted(model, port=host.port):
        page.get_by_role("button", name="Try now").click()
        done(page, 2)
        expect(page.locator("#notice")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(host: Host, visit: Opened, scheme: str) -> None:
    page = visit(host.url, viewport=PHONE, color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", ground)[0]) < 128) == (scheme == "dark")
    for count in (1, 6):
        wide = "document.documentElement.scrollWidth - innerWidth"
        assert page.evaluate(wide) == 0
        add(page, *["a picture with quite a long name that goes on.png"] * (count - count // 6))
        done(page, count)
        page.get_by_text("More", exact=True).click()
        assert page.evaluate(wide) == 0


def test_everything_has_a_name_and_is_reached_by_keys(host: Host, visit: Opened) -> None:
    page = visit(host.url)
    assert page.evaluate(NAMELESS) == []
    add(page, "a.png")
    add(page, "bad.png", data=b"bad")
    done(page)
    expect(row(page, "bad.png")).to_have_attribute("data-state", "failed")
    assert page.evaluate(NAMELESS) == []
    order: list[str] = []
    page.evaluate("document.activeElement.blur()")
    while len(order) < 40:
        page.keyboard.press("Tab")
        name, seen = page.evaluate(FOCUSED)
        if name == "BODY":
            break
        assert seen, f"{name} does not show that it has the focus"
        order.append(name)
    known = ["pick", "remove", "pick", "retry", "remove", "add", "clear", "view", "divider"]
    known += ["zoom-out", "zoom-in", "zoom-fit", "zoom-one", "none", "colour", "kind"]
    assert order == [*known, "save", "save-all", "SUMMARY"]


def test_object_urls_are_let_go(host: Host, visit: Opened) -> None:
    page = visit(host.url)
    page.evaluate(KEEP_URLS)
    add(page, "a.png", "b.png")
    done(page, 2)
    row(page, "b.png").locator(".pick").click()
    expect(page.locator("#result")).to_have_attribute("alt", "b.png, cut out")
    assert page.evaluate("urls.size") == 2
    page.get_by_role("button", name="Clear all").click()
    expect(page.get_by_role("button", name="Choose pictures")).to_be_focused()
    assert page.evaluate("urls.size") == 0
