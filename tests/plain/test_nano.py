"""The embedded model cuts out a picture end to end."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from birefnet_runtime import Matting
from birefnet_runtime.__main__ import main
from helpers.pictures import decoded, disc, encoded


def test_nano_cuts_out_a_disc(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(encoded(disc(300, 400)))
    assert main(["remove", str(photo), "--device", "cpu", "--threads", "1"]) == 0
    rgba = decoded((tmp_path / "photo.cutout.png").read_bytes())
    assert rgba.shape == (300, 400, 4)
    # A bright disc on a flat dark ground: the plainest foreground there is.
    assert rgba[150, 200, 3] > 200
    assert rgba[5, 5, 3] < 50


def test_nano_has_a_contract_and_gives_the_same_from_every_source() -> None:
    pixels = disc(120, 160)
    with Matting.open("nano", device="cpu", threads=1) as matting:
        assert matting.contract.licence != "unknown"
        first = matting.remove(pixels).alpha
        data = encoded(pixels)
        for source in (data, Image.open(io.BytesIO(data))):
            assert np.array_equal(matting.remove(source).alpha, first)
