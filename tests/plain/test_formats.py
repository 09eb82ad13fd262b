"""Every format in and out: pixels by round trip, metadata kept or dropped as said."""

from __future__ import annotations

import base64
import importlib
import io
import struct
import sys
import types
import zipfile
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from birefnet_runtime import Matting, Options
from birefnet_runtime.decode import FORMATS, decode
from birefnet_runtime.encode import SUFFIXES, encode
from birefnet_runtime.errors import DecodeError, InputError, OutputError, TooLargeError
from birefnet_runtime.formats import archive, exif, heif, tiff
from birefnet_runtime.frame import Metadata
from birefnet_runtime.options import MAX_PIXELS
from birefnet_runtime.picture import Keep, to_eight_bits
from helpers.pictures import (
    SRGB,
    decoded,
    encoded,
    ink_profile,
    noise,
    png_16_bit,
    smooth,
)

LOSSLESS = [".png", ".tif", ".tiff", ".webp", ".npy"]
SHAPES = [(1, 1), (1, 40), (40, 1), (13, 17)]
EXIF_IFD, GPS_IFD, MAKER_NOTE = 0x8769, 0x8825, 0x927C
# 64x48, a gradient, turned by its EXIF block; made with libheif.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAchtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAA"
    "AAAAAAAAADRpbG9jAAAAAERAAAIAAQAAAAAB7AABAAAAAAAAAgkAAgAAAAAD9QABAAAAAAAAADAAAAA4aWluZgAAAAAA"
    "AgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABB2lwcnAAAADm"
    "aXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAq"
    "QgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQAN"
    "AAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBp"
    "eGkAAAAAAwgICAAAAAlpcm90AwAAABlpcG1hAAAAAAAAAAEAAQaBAgMFhIYAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEA"
    "AQAAAkFtZGF0AAACBSgBrwY46XHWkTnUm2f8x6qnZ7IUaUlevnDQ2Uu+Bk04GQxXAWDV1asV2cMqf456N1BamPOPauf5"
    "jSi+Ltn7uafetrHWsPsmlP/6KcuSyJCx5QRK+n+vD2RjK8kEyLppeEd+CHm6kDON3R3XX/J4cn97Vkz5v0v7Rf2qeRhB"
    "XmTfSnt5oEqRS9mE8Wf8DewqXbOBWmaJ0RC32TUEz5Q8ULnwbPMLlpy+J8YG5kvjY7bZ5xjzK8iTbggXU8XMq8pDQuhC"
    "EyFf5J51nWKiZiWeoYkA61hxPBLAMWWxwX96Zn5ApjjNpJT9xvK+ZgcW1OSyBuHzOcoYM5wr5q/8P/+C3rDSyioBv8im"
    "EQrPDh9J87/t6SJtjUCL3+4hOWpvK9of8fC8szFYkt0kIuv/briocaGor9/IQQd3/WpSrnlXd9/AaBX6/9rP7f/BxSxt"
    "xczJCMUHaAjtRXtN4DbJHmTRn1A4nFZ+T9uAh7z7ECptUslgUx4nK8paXIOzdC8dmkMx63Om0SmxuVK5KOJ8P5vwIjqg"
    "tX7aJHki/d26v1X7WfIT/QvUxYV4KvzNoAlV7L/ZViwuGnjWwjMmTu9YgPaicPZmAQgDtMqhTakMx/SA4w4qblm05qlq"
    "PPKXkuxarEXSDKPZLpXgbkJmgGEiwrysn/Of5isgAPgFVnZEti73pR2Pr49b34AAAAAGRXhpZgAATU0AKgAAAAgAAgEP"
    "AAIAAAACTQAAAAESAAMAAAABAAYAAAAAAAA="
)


@pytest.fixture(autouse=True, scope="module")
def plugins() -> None:
    Image.init()


def skip_without_avif(suffix: str) -> None:
    if suffix == ".avif" and "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow has no AVIF: it came with 11.3")


def read(data: bytes, **keep: Any) -> NDArray[Any]:
    """The pixels of ``data`` as our own decoder gives them: RGB, or RGBA where there is alpha."""
    frame = decode(data, MAX_PIXELS, keep=Keep(**keep))
    rgb = frame.rgb if frame.wide is None else frame.wide
    if frame.alpha is None:
        return rgb
    return np.dstack([rgb, frame.alpha if frame.wide is None else frame.alpha * np.uint16(257)])


def words(height: int, width: int, channels: int) -> NDArray[np.uint16]:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(1).integers(0, 65536, shape, dtype=np.uint16)


# --- pixels


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_lossless_formats_are_exact(suffix: str, channels: int, shape: tuple[int, int]) -> None:
    pixels = noise(*shape, channels=channels)
    data = encode(pixels, suffix)
    if suffix == ".npy":
        assert np.array_equal(np.load(io.BytesIO(data)), pixels)
        return
    wanted = np.repeat(pixels[..., None], 3, axis=2) if channels == 1 else pixels
    assert np.array_equal(read(data), wanted)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert(mode)), pixels)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_sixteen_bits_in_and_out(suffix: str, channels: int, shape: tuple[int, int]) -> None:
    pixels = words(*shape, channels)
    data = encode(pixels, suffix)
    frame = decode(data, MAX_PIXELS, keep=Keep(depth=16))
    assert frame.wide is not None
    wanted = np.repeat(pixels[..., None], 3, axis=2) if channels == 1 else pixels
    assert np.array_equal(frame.wide, wanted[..., :3])
    assert np.array_equal(frame.rgb, np.rint(frame.wide / 257))
    if channels == 4:
        assert frame.alpha is not None
        assert np.array_equal(frame.alpha, np.rint(pixels[..., 3] / 257))
    narrow = decode(data, MAX_PIXELS)
    assert narrow.wide is None
    assert np.array_equal(narrow.rgb, frame.rgb)


def test_words_are_rounded_exactly() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(to_eight_bits(every), np.rint(every / 257))


def test_eight_bit_pictures_have_no_sixteen() -> None:
    for data in (encoded(noise(5, 5)), encoded(smooth(5, 5), "JPEG")):
        assert decode(data, MAX_PIXELS, keep=Keep(depth=16)).wide is None


def test_arrays_of_words() -> None:
    pixels = words(6, 7, 4)
    frame = decode(pixels, MAX_PIXELS, keep=Keep(depth=16))
    assert frame.wide is not None
    assert np.array_equal(frame.wide, pixels[..., :3])


def test_a_transparent_colour_of_sixteen_bits() -> None:
    pixels = words(4, 5, 3)
    red, green, blue = (int(value) for value in pixels[2, 3])
    whole = png_16_bit(pixels)
    at = whole.index(b"IDAT") - 4
    key = struct.pack(">3H", red, green, blue)
    from birefnet_runtime.formats.png import chunk

    frame = decode(whole[:at] + chunk(b"tRNS", key) + whole[at:], MAX_PIXELS)
    assert frame.alpha is not None
    assert np.argwhere(frame.alpha == 0).tolist() == [[2, 3]]


def test_grey_with_alpha_of_sixteen_bits() -> None:
    grey, alpha = words(4, 5, 1), words(4, 5, 1)[::-1]
    data = cv2.imencode(".tif", np.dstack([grey] * 3))[1].tobytes()
    assert np.array_equal(read(data, depth=16)[..., 1], grey)
    rgba = np.dstack([grey, grey, grey, alpha])
    assert np.array_equal(read(png_16_bit(rgba), depth=16)[..., 0], grey)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp", ".avif"])
def test_lossy_formats_are_near(suffix: str) -> None:
    skip_without_avif(suffix)
    pixels = smooth(96, 128)
    sizes = []
    for quality in (None, 95, 30):
        data = encode(pixels, suffix, quality=quality)
        # Quality 30 keeps a smooth picture within a few levels on average.
        assert np.abs(read(data).astype(int) - pixels).mean() < 6
        sizes.append(len(data))
    assert sizes[2] < sizes[1]


def test_webp_is_lossless_unless_a_quality_is_given() -> None:
    pixels = noise(20, 30, channels=4)
    pixels[:5, :, 3] = 0
    assert np.array_equal(decoded(encode(pixels, ".webp")), pixels)
    lossy = decoded(encode(pixels, ".webp", quality=80))
    assert np.array_equal(lossy[..., 3], pixels[..., 3])
    assert not np.array_equal(lossy, pixels)


def test_transparency_survives_avif() -> None:
    skip_without_avif(".avif")
    alpha = smooth(24, 32)[..., 0]
    rgba = np.dstack([smooth(24, 32), alpha])
    # Alpha is as lossy as colour there.
    assert np.abs(decoded(encode(rgba, ".avif"))[..., 3].astype(int) - alpha).mean() < 6


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".raw", ".rgba"])
def test_raw_is_the_samples(dtype: type, suffix: str) -> None:
    pixels: NDArray[Any] = noise(3, 5, 4).astype(dtype)[:, ::-1]
    data = encode(pixels, suffix)
    order = np.dtype(dtype).newbyteorder("<")
    assert np.array_equal(np.frombuffer(data, order).reshape(3, 5, 4), pixels)


def test_zip_holds_colours_and_mask() -> None:
    rgba = np.dstack([smooth(200, 280), np.zeros((200, 280), np.uint8)])
    rgba[40:120, 85:200, 3] = 255
    rgba[40:120, 85, 3] = 100
    rgba[rgba[..., 3] == 0] = 0
    data = encode(rgba, ".zip", Metadata(SRGB, (300, 300)))
    files = zipfile.ZipFile(io.BytesIO(data))
    assert files.namelist() == [archive.COLOUR, archive.ALPHA]
    assert files.testzip() is None
    assert np.array_equal(decoded(files.read(archive.ALPHA)), rgba[..., 3])
    colour = Image.open(io.BytesIO(files.read(archive.COLOUR)))
    assert colour.info["icc_profile"] == SRGB
    assert colour.info["dpi"] == (300, 300)
    black = zipfile.ZipFile(io.BytesIO(encode(rgba, ".zip", clear=False)))
    near, far = (
        np.abs(pixels.astype(int) - rgba[..., :3])[40:120, 85:95].mean()
        for pixels in (np.asarray(colour), decoded(black.read(archive.COLOUR)))
    )
    # Black beside the subject does not reach it: the error is a fraction of what it would cost.
    assert near < 0.6 * far
    assert np.array_equal(data, encode(rgba, ".zip", Metadata(SRGB, (300, 300)), threads=1))


def test_hidden_pixels_take_the_mean_of_their_block() -> None:
    rgba = noise(40, 33, 4)
    rgba[..., 3] = np.where(noise(40, 33, 1, seed=3) < 60, 0, rgba[..., 3] | 1)
    rgba[16:32, :16, 3] = 0
    rgba[rgba[..., 3] == 0] = 0
    filled = archive.fill(rgba)
    shown = rgba[..., 3] > 0
    assert np.array_equal(filled[shown], rgba[shown][:, :3])
    assert not filled[16:32, :16].any()
    for top in range(0, 40, 16):
        for left in range(0, 33, 16):
            rows, columns = slice(top, top + 16), slice(left, left + 16)
            seen = shown[rows, columns]
            if seen.any() and not seen.all():
                mean = np.rint(rgba[rows, columns, :3][seen].mean(axis=0))
                assert (filled[rows, columns][~seen] == mean).all()


def test_tiff_by_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = Metadata(SRGB, (300, 150.5))
    for strip in (1, 100, 777):
        monkeypatch.setattr(tiff, "_STRIP", strip)
        for pixels in (noise(31, 9), noise(30, 8, 4)[::-1], noise(5, 5, 1)):
            for threads in (1, 3):
                data = encode(pixels, ".tif", metadata, threads=threads)
                assert np.array_equal(decoded(data), pixels)


def test_sizes_and_kinds_that_a_format_lacks() -> None:
    rgba, grey, wide = noise(4, 4, 4), noise(4, 4, 1), words(4, 4, 4)
    with pytest.raises(OutputError, match=r"\.zip is for a cut-out.*use \.png"):
        encode(grey, ".zip")
    with pytest.raises(OutputError, match=r"\.rgba is for a cut-out"):
        encode(rgba[..., :3], ".rgba")
    for suffix in (".webp", ".avif", ".zip"):
        with pytest.raises(OutputError, match=r"8 bits per channel: use \.png, \.tif"):
            encode(wide, suffix)
    with pytest.raises(OutputError, match="8 bits per channel"):
        encode(wide[..., :3], ".jpg")
    with pytest.raises(OutputError, match="cannot hold 1x70000"):
        encode(np.zeros((1, 70000, 3), np.uint8), ".jpg")


def test_sixteen_bits_through_the_door(matting: Matting) -> None:
    pixels = words(30, 40, 3) | np.uint16(0xC000)
    options = Options(depth=16, foreground="off")
    cutout = matting.remove(encode(pixels, ".png"), options)
    for suffix in (".png", ".tif"):
        bgra = cv2.imdecode(np.frombuffer(cutout.encode(suffix), np.uint8), cv2.IMREAD_UNCHANGED)
        assert bgra is not None
        assert bgra.dtype == np.uint16
        seen = bgra[..., 3] > 0
        assert seen.any()
        assert np.array_equal(bgra[..., 2::-1][seen], pixels[seen])
    with pytest.raises(OutputError, match="8 bits per channel"):
        cutout.encode(".webp")


def test_sixteen_bits_that_cannot_be_kept_say_so() -> None:
    data = encode(words(5, 6, 4), ".tif")
    # The kind of the fourth sample: 2, straight alpha, becomes 1, premultiplied.
    entry = struct.pack("<2HI2H", 338, 3, 1, 2, 0)
    assert data.count(entry) == 1
    data = data.replace(entry, struct.pack("<2HI2H", 338, 3, 1, 1, 0))
    assert decode(data, MAX_PIXELS).size == (5, 6)
    with pytest.raises(DecodeError, match=r"16 bits cannot be kept.*leave out --depth 16"):
        decode(data, MAX_PIXELS, keep=Keep(depth=16))


# --- metadata


def camera_exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x010F], tags[0x0110], tags[0x0112] = "Maker", "Model 1", 6
    tags[EXIF_IFD] = {0x9003: "2020:01:02 03:04:05", MAKER_NOTE: b"serial number 7", 0xA002: 99}
    tags[GPS_IFD] = {1: "N", 2: (48.0, 51.0, 29.5)}
    return tags


def tags_of(data: bytes) -> Image.Exif:
    with Image.open(io.BytesIO(data)) as image:
        return image.getexif()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_is_dropped_unless_asked_for(kind: str) -> None:
    data = encoded(smooth(20, 30), kind, exif=camera_exif().tobytes())
    assert decode(data, MAX_PIXELS).metadata.exif is None
    frame = decode(data, MAX_PIXELS, keep=Keep(exif=True))
    block = frame.metadata.exif
    assert block is not None
    tags = exif.directories(block)
    assert tags[0x010F] == "Maker"
    assert tags[EXIF_IFD] == {0x9003: "2020:01:02 03:04:05"}
    # Turned already; no place, nor what nobody can read, nor the file's own size.
    assert not {0x0112, GPS_IFD, 0x0100, 0x0111} & set(tags)
    assert b"serial" not in block
    frame = decode(data, MAX_PIXELS, keep=Keep(exif=True, gps=True))
    assert frame.metadata.exif is not None
    assert exif.directories(frame.metadata.exif)[GPS_IFD][2] == (48.0, 51.0, 29.5)
    assert decode(data, MAX_PIXELS, keep=Keep(gps=True)).metadata.exif is None


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("gps", [False, True])
def test_metadata_travels(suffix: str, gps: bool) -> None:
    skip_without_avif(suffix)
    options = {"icc_profile": SRGB, "dpi": (300, 150)}
    data = encoded(smooth(20, 30), "JPEG", exif=camera_exif(), **options)
    metadata = decode(data, MAX_PIXELS, keep=Keep(exif=True, gps=gps)).metadata
    # The picture was turned, and its resolution with it.
    assert metadata.dpi == (150, 300)
    result = encode(smooth(30, 20), suffix, metadata)
    tags = tags_of(result)
    assert tags[0x010F] == "Maker"
    assert 0x0112 not in tags
    assert tags.get_ifd(EXIF_IFD)[0x9003] == "2020:01:02 03:04:05"
    assert bool(tags.get_ifd(GPS_IFD)) == gps
    again = decode(result, MAX_PIXELS).metadata
    assert again.icc == SRGB
    # PNG counts whole dots per metre, 0.0254 of which are an inch.
    assert again.dpi == pytest.approx((150, 300), abs=0.02)


def test_metadata_through_the_door(matting: Matting) -> None:
    data = encoded(smooth(20, 30), "JPEG", exif=camera_exif(), dpi=(300, 300))
    plain = matting.remove(data, Options(foreground="off")).encode(".png")
    assert not tags_of(plain)
    kept = matting.remove(data, Options(foreground="off", keep_exif=True)).encode(".png")
    assert tags_of(kept)[0x0110] == "Model 1"
    assert not tags_of(kept).get_ifd(GPS_IFD)


def test_a_broken_block_is_dropped() -> None:
    data = encoded(smooth(8, 10), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05" + b"\xff" * 40)
    assert decode(data, MAX_PIXELS, keep=Keep(exif=True, gps=True)).size == (8, 10)


def test_ink_is_shown_by_its_profile() -> None:
    inks = np.zeros((4, 4, 4), np.uint8)
    inks[:2, :, 0] = 255
    data = encoded(Image.fromarray(inks, "CMYK"), "TIFF", icc_profile=ink_profile())
    frame = decode(data, MAX_PIXELS)
    # The profile makes every ink a grey: one of the four is L* 75, which sRGB has at 184.6.
    assert np.abs(frame.rgb[0].astype(int) - 185).max() <= 2
    # L* 100 is white; 8-bit Lab and the conversion may cost a level each.
    assert frame.rgb[3].min() >= 253
    assert frame.metadata.icc is None
    plain = decode(encoded(Image.fromarray(inks, "CMYK"), "TIFF"), MAX_PIXELS)
    assert plain.rgb[0, 0].tolist() == [0, 255, 255]
    damaged = ink_profile()[:200]
    data = encoded(Image.fromarray(inks, "CMYK"), "TIFF", icc_profile=damaged)
    assert np.array_equal(decode(data, MAX_PIXELS).rgb, plain.rgb)


# --- bad input


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_files_that_are_cut_off(suffix: str) -> None:
    data = encode(words(60, 50, 3), suffix)
    for share in (0.3, 0.9):
        with pytest.raises(InputError, match="damaged"):
            decode(data[: int(len(data) * share)], MAX_PIXELS)
    with pytest.raises(TooLargeError):
        decode(data, 2999)


def test_sixteen_bit_damage_never_escapes(capfd: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    for suffix in (".png", ".tif"):
        whole = np.frombuffer(encode(words(9, 8, 3), suffix), np.uint8)
        for _ in range(60):
            data = whole.copy()
            data[generator.integers(0, len(data), 4)] = generator.integers(0, 256, 4)
            try:
                decode(data.tobytes(), MAX_PIXELS)
            except InputError as error:
                assert "\n" not in str(error)


def test_bombs_in_every_format() -> None:
    for kind in FORMATS:
        if kind not in Image.SAVE or kind == "HEIF":
            continue
        with pytest.raises(TooLargeError, match="the limit is 1199"):
            decode(encoded(noise(30, 40), kind), 1199)


# --- HEIC


def test_heic_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    for module in heif._READERS:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DecodeError, match=r"is HEIC.*pip install 'birefnet-trt\[heif\]'"):
        decode(HEIC, MAX_PIXELS)


def test_a_reader_that_is_installed_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    calls = []
    reader = types.ModuleType("pi_heif")
    reader.register_heif_opener = lambda: calls.append(1)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pi_heif", reader)
    # The fake registers nothing, so that Pillow still does not know the file.
    with pytest.raises(DecodeError, match="is none of"):
        decode(HEIC, MAX_PIXELS)
    assert calls == [1]


def test_heic() -> None:
    try:
        importlib.import_module("pi_heif")
    except ImportError:
        pytest.skip("pi-heif is not installed: pip install 'birefnet-trt[heif]'")
    frame = decode(HEIC, MAX_PIXELS)
    assert frame.size == (64, 48)
    # The lower left corner of the gradient, turned to the top; HEVC at quality 90.
    assert np.abs(frame.rgb[0, 0].astype(int) - (0, 235, 90)).max() <= 8


def test_avif_without_a_reader_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    start = struct.pack(">I", 24) + b"ftypavif\0\0\0\0mif1avif"
    with pytest.raises(DecodeError, match=r"is AVIF.*pip install 'pillow>=11.3'"):
        decode(start + bytes(40), MAX_PIXELS)
    monkeypatch.delitem(Image.SAVE, "AVIF", raising=False)
    with pytest.raises(OutputError, match="no AVIF"):
        encode(noise(4, 4), ".avif")


def test_the_list_of_formats() -> None:
    assert set(SUFFIXES) >= {".png", ".webp", ".jpg", ".tif", ".zip", ".raw", ".npy", ".avif"}
