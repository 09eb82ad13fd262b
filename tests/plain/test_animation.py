"""Animations frame by frame: what is read, cut out and written is what other programs see."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from birefnet_runtime import Matting, Options, animation, moving
from birefnet_runtime.animation import Film
from birefnet_runtime.errors import InputError, OptionError, OutputError, TooLargeError
from birefnet_runtime.options import MAX_PIXELS
from helpers.pictures import SRGB, Pixels, disc, encoded, noise, png_of_size

MILLIS = [100, 40, 250]


def animated(frames: list[Pixels], kind: str, **options: Any) -> bytes:
    images = [Image.fromarray(frame) for frame in frames]
    lossless = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    rest = {"append_images": images[1:], "duration": MILLIS[: len(images)], "save_all": True}
    return encoded(images[0], kind, **rest, **lossless, **options)


def discs() -> list[Pixels]:
    return [disc(20, 24), disc(20, 24)[:, ::-1] // 2 + 90, noise(20, 24)]


def seen(data: bytes) -> list[tuple[Pixels, int]]:
    """Each frame as Pillow shows it, RGBA, and its milliseconds."""
    found = []
    with Image.open(io.BytesIO(data)) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()
            pixels = np.asarray(image.convert("RGBA"))
            found.append((pixels, round(image.info.get("duration", 0))))
    return found


def visible(rgba: Pixels) -> Pixels:
    """``rgba`` with nothing behind alpha 0."""
    result: Pixels = rgba * (rgba[..., 3:] > 0)
    return result


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_frames_durations_and_plays_are_read(kind: str) -> None:
    data = animated(discs(), kind, loop=3)
    with Film(data, MAX_PIXELS) as film:
        shots = list(film)
        assert (film.count, film.size) == (3, (20, 24))
        # GIF says how often an animation is shown again, the others how often it is shown.
        assert film.plays == (4 if kind == "GIF" else 3)
    assert [shot.millis for shot in shots] == MILLIS
    for shot, (pixels, _) in zip(shots, seen(data), strict=True):
        assert np.array_equal(shot.pixels, pixels)
    if kind != "GIF":
        assert np.array_equal(shots[2].pixels[..., :3], discs()[2])


def test_still_pictures_have_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(noise(4, 4)))
    pages = animated(discs(), "TIFF")
    assert [animation.count(source, MAX_PIXELS) for source in (path, pages, noise(4, 4))] == [1] * 3
    assert animation.count(animated(discs(), "GIF"), MAX_PIXELS) == 3
    # What is no file stays untouched, and is reported when it is decoded.
    assert animation.count(tmp_path / "missing.gif", MAX_PIXELS) == 1


def test_a_png_for_programs_without_animation_is_not_a_frame() -> None:
    data = animated([noise(20, 24, seed=9), *discs()[:2]], "PNG", default_image=True)
    with Film(data, MAX_PIXELS) as film:
        assert film.count == 2
        assert [shot.pixels.shape for shot in film] == [(20, 24, 4)] * 2


@pytest.mark.parametrize("suffix", moving.SUFFIXES)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("plays", [0, 1, 5])
def test_what_is_written_is_seen(suffix: str, channels: int, plays: int) -> None:
    frames = [noise(9, 7, channels, seed) for seed in range(3)]
    reel = moving.Reel((9, 7), channels, MILLIS, plays)
    data = moving.join([moving.part(frame, suffix) for frame in frames], suffix, reel)
    with Film(data, MAX_PIXELS) as film:
        assert (film.count, film.plays) == (3, plays)
        shots = list(film)
    assert [shot.millis for shot in shots] == MILLIS
    for shot, frame in zip(shots, frames, strict=True):
        wanted = np.asarray(Image.fromarray(frame).convert("RGBA"))
        if suffix == ".gif":
            assert np.array_equal(shot.pixels[..., 3] > 0, wanted[..., 3] >= 128)
            shown = shot.pixels[..., 3] > 0
            # 63 pixels of noise have fewer colours than a table: none is far from its own.
            assert np.abs(shot.pixels[shown].astype(int) - wanted[shown])[:, :3].max() <= 32
        else:
            assert np.array_equal(shot.pixels, wanted)


def test_profiles_are_kept_and_long_times_held() -> None:
    frames = [noise(4, 6, 4), noise(4, 6, 4, seed=1)]
    reel = moving.Reel((4, 6), 4, [70_000, 5], 0, SRGB)
    for suffix in (".webp", ".png"):
        data = moving.join([moving.part(frame, suffix) for frame in frames], suffix, reel)
        with Film(data, MAX_PIXELS) as film:
            assert film.icc == SRGB
            assert [shot.millis for shot in film] == [70_000, 5]


def test_rounding_to_hundredths_does_not_add_up() -> None:
    frames = [noise(3, 3, 3, seed) for seed in range(6)]
    reel = moving.Reel((3, 3), 3, [33] * 6, 0)
    data = moving.join([moving.part(frame, ".gif") for frame in frames], ".gif", reel)
    assert sum(millis for _, millis in seen(data)) == 200


@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif"])
def test_every_frame_is_cut_out(matting: Matting, suffix: str) -> None:
    data = animated(discs(), "WEBP", loop=2)
    options = Options(foreground="off")
    result = animation.remove(matting, data, suffix, options)
    frames = seen(result)
    assert [millis for _, millis in frames] == MILLIS
    with Film(result, MAX_PIXELS) as film:
        assert film.plays == 2
    for (pixels, _), frame in zip(frames, discs(), strict=True):
        wanted = matting.remove(frame, options).rgba
        if suffix == ".gif":
            assert np.array_equal(pixels[..., 3] > 0, wanted[..., 3] >= 128)
        else:
            assert np.array_equal(visible(pixels), visible(wanted))


def test_masks_and_backgrounds_move_too(matting: Matting) -> None:
    data = animated(discs(), "GIF")
    mask = animation.remove(matting, data, ".png", Options(output="alpha"))
    white = animation.remove(matting, data, ".webp", Options(background="white"))
    assert len(seen(mask)) == len(seen(white)) == 3
    assert seen(white)[0][0][0, 0].tolist() == [255, 255, 255, 255]
    still = animation.remove(matting, encoded(disc()), ".webp")
    assert len(seen(still)) == 1


def test_refusals(matting: Matting, monkeypatch: pytest.MonkeyPatch) -> None:
    data = animated(discs(), "GIF")
    with pytest.raises(OptionError, match="leave out crop"):
        animation.remove(matting, data, ".webp", Options(crop=True))
    with pytest.raises(OutputError, match=r"holds no animation: use \.webp"):
        animation.remove(matting, data, ".jpg")
    with pytest.raises(OutputError, match="cannot hold 1x16385 pixels"):
        moving.part(np.zeros((1, 16385, 3), np.uint8), ".webp")
    with pytest.raises(TooLargeError, match="the limit is 100"):
        Film(data, 100)
    with pytest.raises(TooLargeError, match="has 3 frames of 20x24, the limits are 2"):
        Film(data, MAX_PIXELS, max_frames=2)
    with pytest.raises(TooLargeError):
        Film(png_of_size(60000, 60000), MAX_PIXELS)
    monkeypatch.setattr(animation, "MAX_TOTAL", 1000)
    with pytest.raises(TooLargeError, match="1000 pixels"):
        Film(data, MAX_PIXELS)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_damage_is_a_clear_error(kind: str) -> None:
    data = animated([noise(40, 50, seed=seed) for seed in range(3)], kind)
    for share in (0.2, 0.5, 0.9):
        with (
            pytest.raises(InputError, match="damaged"),
            Film(data[: int(len(data) * share)], MAX_PIXELS) as film,
        ):
            for _ in film:
                pass
