"""PyTorch as a contestant of ``make bench``: it does the work that the runtime does."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from birefnet_runtime import Matting
from measuring.child import Child, ContestantError
from measuring.options import Wanted, find
from measuring.pictures import EXAMPLES


def test_pytorch_cuts_out_what_the_runtime_does(tmp_path: Path) -> None:
    subject = find(Wanted())
    opening = {
        "threads": 1,
        "contract": subject.fields,
        "weights": subject.weights,
        "patch_order": subject.contract.patch_order,
        "compiled": False,
    }
    picture, kept = EXAMPLES / "lemur.jpg", tmp_path / "kept.png"
    no_gpu = {"CUDA_VISIBLE_DEVICES": ""}
    with Child("pytorch_child", 1, variables=no_gpu) as child:
        with pytest.raises(ContestantError, match="half precision"):
            child.ask("open", kind="fp16", **opening)
        assert "float32" in child.ask("open", kind="fp32", **opening)["about"]
        answer = child.ask("cut", path=str(picture), keep=str(kept))
        alone = child.ask("forward", batch=2)
    assert set(answer["steps"]) == {"decode", "preprocess", "model", "refine", "encode"}
    assert sum(answer["steps"].values()) == pytest.approx(answer["seconds"])
    assert alone["seconds"] > 0
    with Matting.open(threads=1) as matting:
        alpha = matting.remove(picture).alpha
    with Image.open(io.BytesIO(kept.read_bytes())) as image:
        theirs = np.asarray(image.getchannel("A"), np.int16)
    # Their 8-bit mask is rounded before it is enlarged, with another bicubic kernel.
    assert np.abs(theirs - alpha).mean() < 1
