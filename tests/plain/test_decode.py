"""Every kind of picture becomes one upright RGB frame, and every bad one a clear error."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from birefnet_runtime.decode import PictureSource, decode
from birefnet_runtime.errors import DecodeError, InputError, TooLargeError
from birefnet_runtime.frame import Frame
from birefnet_runtime.options import MAX_PIXELS
from birefnet_runtime.picture import ORIENTATIONS
from helpers.pictures import SRGB, decoded, encoded, noise, png_16_bit, png_of_size, smooth

LOSSLESS = ["PNG", "TIFF", "BMP"]


def read(source: PictureSource) -> Frame:
    return decode(source, MAX_PIXELS)


def skip_without_avif(kind: str) -> None:
    Image.init()
    if kind == "AVIF" and kind not in Image.SAVE:
        pytest.skip("this Pillow has no AVIF: it came with 11.3")


# --- sources


def test_path_bytes_image_and_array_give_the_same_frame(tmp_path: Path) -> None:
    pixels = noise(7, 5)
    data = encoded(pixels)
    file = tmp_path / "a.png"
    file.write_bytes(data)
    sources: list[PictureSource] = [
        file,
        str(file),
        data,
        bytearray(data),
        memoryview(data),
        Image.fromarray(pixels),
        pixels,
    ]
    for source in sources:
        frame = read(source)
        assert np.array_equal(frame.rgb, pixels)
        assert frame.rgb.dtype == np.uint8
        assert frame.rgb.flags.c_contiguous
        assert frame.alpha is None
    assert read(file).source == str(file)


def test_rgba_array_is_split_and_an_opaque_one_has_no_alpha() -> None:
    pixels = noise(6, 4, channels=4)
    frame = read(pixels)
    assert np.array_equal(frame.rgb, pixels[..., :3])
    assert frame.alpha is not None
    assert np.array_equal(frame.alpha, pixels[..., 3])
    pixels[..., 3] = 255
    assert read(pixels).alpha is None


def test_an_array_with_strides_is_accepted() -> None:
    pixels = noise(8, 8)
    assert np.array_equal(read(pixels[::2, ::-1]).rgb, pixels[::2, ::-1])


def test_a_pipe_that_cannot_seek_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    pixels = noise(4, 4)
    writer = threading.Thread(target=pipe.write_bytes, args=(encoded(pixels),))
    writer.start()
    assert np.array_equal(read(pipe).rgb, pixels)
    writer.join()


# --- formats and modes


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_are_exact(kind: str) -> None:
    pixels = noise(9, 13)
    assert np.array_equal(read(encoded(pixels, kind)).rgb, pixels)


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_lossy_formats_are_as_pillow_reads_them(kind: str) -> None:
    skip_without_avif(kind)
    data = encoded(smooth(24, 32), kind)
    assert np.array_equal(read(data).rgb, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_equals_pillow(subsampling: int, progressive: bool) -> None:
    data = encoded(
        smooth(37, 53), "JPEG", quality=92, subsampling=subsampling, progressive=progressive
    )
    difference = np.abs(read(data).rgb.astype(int) - decoded(data))
    # Both are libjpeg-turbo; builds may differ by one level in the colour conversion.
    assert difference.max() <= 1


def test_grey_one_bit_and_palette() -> None:
    grey = noise(8, 8, channels=1)
    three = np.repeat(grey[..., None], 3, axis=2)
    assert np.array_equal(read(encoded(grey)).rgb, three)
    assert np.array_equal(read(grey).rgb, three)
    one_bit = Image.fromarray(grey).convert("1")
    assert set(np.unique(read(encoded(one_bit)).rgb)) == {0, 255}
    palette = Image.fromarray(noise(8, 8)).quantize(16)
    assert np.array_equal(read(encoded(palette)).rgb, np.asarray(palette.convert("RGB")))
    assert np.array_equal(read(encoded(palette, "GIF")).rgb, np.asarray(palette.convert("RGB")))


def test_a_jpeg_with_a_fault_that_costs_nothing_is_read() -> None:
    data = encoded(smooth(16, 16), "JPEG", quality=95)
    table = data.index(b"\xff\xdb")
    # Libraries call these extraneous bytes before a marker; every viewer shows the picture.
    assert np.array_equal(read(data[:table] + b"\x01\x02" + data[table:]).rgb, read(data).rgb)


def test_grey_jpeg() -> None:
    data = encoded(smooth(16, 16)[..., 0], "JPEG", quality=95)
    assert np.array_equal(read(data).rgb[..., 1], decoded(data))


def test_grey_with_alpha_keeps_both() -> None:
    pixels = noise(8, 8, channels=4)
    image = Image.fromarray(pixels).convert("LA")
    frame = read(encoded(image))
    assert np.array_equal(frame.rgb[..., 2], np.asarray(image)[..., 0])
    assert frame.alpha is not None
    assert np.array_equal(frame.alpha, pixels[..., 3])


def test_colour_under_transparency_is_kept() -> None:
    pixels = noise(8, 8, channels=4)
    pixels[:4, :, 3] = 0
    for data in (
        encoded(pixels),
        encoded(pixels, "TIFF"),
        encoded(pixels, "WEBP", lossless=True, exact=True),
    ):
        frame = read(data)
        assert np.array_equal(frame.rgb, pixels[..., :3])
        assert frame.alpha is not None
        assert np.array_equal(frame.alpha, pixels[..., 3])


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_a_transparent_entry(kind: str) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    frame = read(encoded(image, kind, transparency=1))
    assert frame.alpha is not None
    assert frame.alpha.tolist() == [[255, 0], [255, 0]]
    assert frame.rgb[0, 0].tolist() == [10, 20, 30]


def test_transparent_colour_key_of_an_rgb_png() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 0] = (1, 2, 3)
    frame = read(encoded(pixels, transparency=(1, 2, 3)))
    assert frame.alpha is not None
    assert frame.alpha.tolist() == [[0, 255], [255, 255]]


def test_cmyk_jpeg_is_not_inverted() -> None:
    pixels = np.full((16, 16, 3), (250, 240, 10), np.uint8)
    data = encoded(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=100)
    # Adobe's marker says that the inks are stored inverted, which is what Pillow writes.
    assert b"Adobe" in data
    # JPEG at quality 100 and the way through CMYK cost at most two levels each.
    assert np.abs(read(data).rgb.astype(int) - pixels).max() <= 4


def test_cmyk_tiff() -> None:
    image = Image.fromarray(smooth(8, 8)).convert("CMYK")
    assert np.array_equal(read(encoded(image, "TIFF")).rgb, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    values = np.array([[0, 128, 129, 40000], [65535, 257, 32768, 1000]], np.uint16)
    data = png_16_bit(values) if kind == "PNG" else encoded(Image.fromarray(values), kind)
    frame = read(data)
    assert frame.rgb[..., 0].tolist() == [[0, 0, 1, 156], [255, 1, 128, 4]]


def test_sixteen_bit_colour_and_alpha() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (6, 5, 4), dtype=np.uint16)
    frame = read(png_16_bit(values))
    wanted = np.rint(values / 257)
    # Pillow keeps the high byte of 16-bit colour, which is rounding down: one level at most.
    assert np.abs(frame.rgb - wanted[..., :3]).max() <= 1
    assert frame.alpha is not None
    # The same holds for alpha.
    assert np.abs(frame.alpha - wanted[..., 3]).max() <= 1
    assert np.array_equal(read(png_16_bit(values[..., :3])).rgb, frame.rgb)


def test_wide_integer_image() -> None:
    image = Image.fromarray(np.array([[0, 65535], [70000, -5]], np.int32))
    assert read(image).rgb[..., 0].tolist() == [[0, 255], [255, 0]]


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "PNG", "TIFF"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert read(data).rgb[0, 0].tolist() == [255, 0, 0]


def test_a_phone_jpeg_with_a_second_picture() -> None:
    first, second = (Image.fromarray(smooth(16, 16, seed=seed)) for seed in (0, 1))
    data = encoded(first, "MPO", save_all=True, append_images=[second], quality=95)
    # One level: simplejpeg and Pillow may be built with different libjpeg-turbo.
    assert np.abs(read(data).rgb.astype(int) - decoded(data)).max() <= 1


# --- orientation, profile, resolution


@pytest.mark.parametrize("orientation", sorted(ORIENTATIONS))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(smooth(12, 20), kind, exif=exif, **options)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    frame = read(data)
    assert frame.size == ((20, 12) if orientation > 4 else (12, 20))
    # One level: simplejpeg and Pillow may be built with different libjpeg-turbo.
    assert np.abs(frame.rgb.astype(int) - np.asarray(wanted)).max() <= 1


def test_orientation_of_a_pillow_image_and_of_alpha() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = noise(3, 5, channels=4)
    image = Image.open(io.BytesIO(encoded(pixels, exif=exif)))
    frame = read(image)
    assert np.array_equal(frame.rgb, np.rot90(pixels[..., :3], -1))
    assert frame.alpha is not None
    assert np.array_equal(frame.alpha, np.rot90(pixels[..., 3], -1))


@pytest.mark.parametrize("value", [0, 9, 77])
def test_orientation_without_meaning_is_ignored(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert read(encoded(smooth(8, 10), "JPEG", exif=exif)).size == (8, 10)


def test_broken_exif_does_not_spoil_a_good_picture() -> None:
    data = encoded(smooth(8, 10), "JPEG", exif=b"Exif\0\0" + b"\xff" * 40)
    assert read(data).size == (8, 10)


def test_profile_and_resolution_are_kept() -> None:
    frame = read(encoded(smooth(8, 8), "JPEG", icc_profile=SRGB, dpi=(300, 150)))
    assert frame.metadata.icc == SRGB
    assert frame.metadata.dpi == (300, 150)


def test_resolution_turns_with_the_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    frame = read(encoded(smooth(8, 8), "JPEG", exif=exif, dpi=(300, 150)))
    assert frame.metadata.dpi == (150, 300)


def test_a_profile_for_ink_is_dropped() -> None:
    profile = SRGB[:16] + b"CMYK" + SRGB[20:]
    image = Image.fromarray(smooth(8, 8)).convert("CMYK")
    assert read(encoded(image, "JPEG", icc_profile=profile)).metadata.icc is None


# --- bad input


def bad(source: PictureSource) -> str:
    with pytest.raises(InputError) as caught:
        read(source)
    text = str(caught.value)
    assert "\n" not in text
    assert text == f"{caught.value.source}: {caught.value.reason}"
    return text


def test_missing_folder_empty_and_text(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.jpg", tmp_path / "text.jpg"
    empty.touch()
    text.write_text("hello")
    assert bad(tmp_path / "missing.jpg").endswith("missing.jpg: no such file")
    assert "is a folder" in bad(tmp_path)
    assert bad(empty).endswith("empty.jpg: is empty")
    assert "is none of JPEG, PNG" in bad(text)
    assert "is empty" in bad(b"")
    assert "cannot be read" in bad("a\0b")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "AVIF"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_picture_that_is_cut_off_raises(kind: str, share: float) -> None:
    skip_without_avif(kind)
    data = encoded(noise(40, 60), kind)
    assert "damaged" in bad(data[: int(len(data) * share)])


def test_formats_off_the_list_are_refused() -> None:
    for kind in ("PPM", "ICO", "TGA"):
        assert "is none of" in bad(encoded(noise(16, 16), kind))


def test_float_pixels_are_refused() -> None:
    assert "float" in bad(encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0), np.uint8),
    ],
)
def test_arrays_of_another_layout(pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(DecodeError, match="<array>"):
        decode(pixels, MAX_PIXELS)


def test_something_else_altogether() -> None:
    with pytest.raises(DecodeError, match="give a path"):
        decode(12, MAX_PIXELS)  # type: ignore[arg-type]


def test_limit_is_applied_before_decoding() -> None:
    # 20000 x 8000 pixels in a file of a few hundred bytes: decoding it would fail as cut off.
    with pytest.raises(TooLargeError, match="160000000 pixels, the limit is 1000000"):
        decode(png_of_size(20000, 8000), 1_000_000)
    for source in (noise(10, 10), Image.fromarray(noise(10, 10)), encoded(noise(10, 10), "JPEG")):
        with pytest.raises(TooLargeError):
            decode(source, 99)
        assert decode(source, 100).size == (10, 10)


def test_a_bomb_and_a_large_header() -> None:
    with pytest.raises(TooLargeError):
        read(png_of_size(60000, 60000))
    # 90 million pixels: Pillow would warn; here the limit decides, and no warning appears.
    with pytest.raises(TooLargeError, match="the limit is 89999999"):
        decode(png_of_size(10000, 9000), 89_999_999)


def test_no_damage_escapes_as_another_exception() -> None:
    generator = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP"):
        whole = np.frombuffer(encoded(smooth(20, 20), kind), np.uint8)
        for _ in range(40):
            data = whole.copy()
            data[generator.integers(0, len(data), 8)] = generator.integers(0, 256, 8)
            try:
                read(data.tobytes())
            except InputError as error:
                assert "\n" not in str(error)
