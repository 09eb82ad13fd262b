"""What is written is what was given, as other programs read it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from birefnet_runtime.cutout import Cutout
from birefnet_runtime.encode import encode, write
from birefnet_runtime.errors import OutputError
from birefnet_runtime.frame import Metadata
from birefnet_runtime.options import Options
from helpers.pictures import SRGB, decoded, noise, smooth


def test_profile_and_resolution_travel() -> None:
    metadata = Metadata(SRGB, (300, 150))
    for suffix in (".png", ".webp", ".tif", ".jpg"):
        image = Image.open(io.BytesIO(encode(smooth(8, 8), suffix, metadata)))
        assert image.info["icc_profile"] == SRGB
        if suffix != ".webp":
            # PNG counts whole dots per metre, 0.0254 of which are an inch.
            assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)
    mask = Image.open(io.BytesIO(encode(noise(8, 8, channels=1), ".png", metadata)))
    assert "icc_profile" not in mask.info


def test_other_formats() -> None:
    rgba, rgb = noise(20, 30, channels=4), smooth(20, 30)
    assert np.array_equal(decoded(encode(rgba, ".tif")), rgba)
    assert np.array_equal(decoded(encode(rgba, ".WEBP"))[..., 3], rgba[..., 3])
    # Quality 92 keeps a smooth picture within a few levels on average.
    assert np.abs(decoded(encode(rgb, ".jpg")).astype(int) - rgb).mean() < 5


def test_refusals() -> None:
    rgba = noise(4, 4, channels=4)
    with pytest.raises(OutputError, match="--background"):
        encode(rgba, ".jpg")
    for suffix in (".bmp", "", ".png2"):
        with pytest.raises(OutputError, match="no format for"):
            encode(rgba, suffix)
    with pytest.raises(OutputError, match="cannot hold 1x16384"):
        encode(np.zeros((1, 16384, 3), np.uint8), ".webp")


def test_cutout_clears_colour_where_nothing_is_left(tmp_path: Path) -> None:
    rgb, alpha = noise(30, 40), noise(30, 40, channels=1)
    alpha[:10] = 0
    cutout = Cutout(rgb, alpha)
    assert np.array_equal(cutout.rgba[..., 3], alpha)
    assert not cutout.rgba[:10, :, :3].any()
    # Straight alpha: whatever is seen at all keeps its colour.
    assert np.array_equal(cutout.rgba[alpha > 0][:, :3], rgb[alpha > 0])
    cutout.save(tmp_path / "new" / "a.png")
    assert np.array_equal(decoded((tmp_path / "new" / "a.png").read_bytes()), cutout.rgba)
    assert np.array_equal(cutout.foreground, rgb)


def test_cutout_writes_what_the_options_ask_for(tmp_path: Path) -> None:
    rgb, alpha = smooth(16, 16), noise(16, 16, channels=1)
    mask = Cutout(rgb, alpha, options=Options(output="alpha"))
    assert np.array_equal(decoded(mask.encode()), alpha)
    white = Cutout(rgb, alpha, options=Options(background="white"))
    assert white.image.shape == (16, 16, 3)
    assert np.array_equal(decoded(white.encode()), white.image)
    white.save(tmp_path / "a.jpg")
    assert decoded((tmp_path / "a.jpg").read_bytes()).shape == (16, 16, 3)
    with pytest.raises(OutputError, match="transparency"):
        Cutout(rgb, alpha).save(tmp_path / "b.jpg")
    assert not (tmp_path / "b.jpg").exists()


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"before")

    def fail(self: Path, target: Any) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match=r"a\.png cannot be written: No space left on device"):
        write(target, b"after")
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    assert target.read_bytes() == b"before"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path / "file" / "a.png", b"")
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path, b"")
