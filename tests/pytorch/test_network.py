"""The network against the official one's logits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from birefnet_export.config import BACKBONES, infer, name_of
from birefnet_export.errors import SizeError
from birefnet_export.network import BiRefNet, check_size, reorder_patches
from golden import scene
from helpers import golden

# Measured noise between the official code's own attention variants in float32: 1.8e-5 to 1.4e-4.
# Files keep the logits of float32 to 2**-14: half of it is 3e-5.
FLOAT32 = 5e-4
# A second implementation reached 2e-13; 1e-9 leaves room for other BLAS libraries, and for the
# 6e-11 to which the file keeps these logits.
FLOAT64 = 1e-9


def distance(net: BiRefNet, images: Any, logits: Any) -> float:
    with torch.inference_mode():
        return float(np.abs(net(golden.to_input(images)).numpy() - logits).max())


@pytest.mark.parametrize("order", ["new", "legacy"])
@pytest.mark.parametrize(
    ("backbone", "name"),
    [("swin_v1_t", "1x256x256"), ("swin_v1_t", "2x256x320"), ("swin_v1_l", "1x256x256")],
)
def test_logits_are_the_official_ones(backbone: str, name: str, order: str) -> None:
    data = golden.case(backbone, name)
    net = golden.network(backbone, order)
    assert distance(net, data["image"], data[golden.LOGITS[order]]) <= FLOAT32


def test_the_wrong_patch_order_is_noticed() -> None:
    data = golden.case("swin_v1_t", "1x256x256")
    net = golden.network("swin_v1_t", "legacy")
    assert distance(net, data["image"], data["logits"]) > 1


def test_float64_logits() -> None:
    data = golden.case("swin_v1_t", "1x256x256")
    net = golden.network("swin_v1_t", "new").double()
    with torch.inference_mode():
        logits = net(golden.to_input64(data["image"])).numpy()
    assert np.abs(logits - data["logits"]).max() <= FLOAT64


@pytest.mark.slow
@pytest.mark.parametrize("order", ["new", "legacy"])
@pytest.mark.parametrize("backbone", ["swin_v1_t", "swin_v1_l"])
def test_sampled_points_at_1024(backbone: str, order: str) -> None:
    with torch.inference_mode():
        logits = golden.network(backbone, order)(golden.to_input(scene.scene())).numpy()
    assert golden.from_official(backbone, order, logits) <= FLOAT32


@pytest.mark.parametrize("source", ["new", "legacy"])
def test_patch_weights_move_between_the_orders(source: str) -> None:
    target = "legacy" if source == "new" else "new"
    first, second = golden.small(source).double(), golden.small(target).double()
    second.load_state_dict(reorder_patches(first.state_dict(), source, target))
    back = reorder_patches(second.state_dict(), target, source)
    assert all(torch.equal(back[key], value) for key, value in first.state_dict().items())
    x = torch.randn(1, 3, 96, 64, dtype=torch.float64)
    # The same sums in another order of channels: float64 rounding only.
    assert (first(x) - second(x)).abs().max() < 1e-12


@pytest.mark.parametrize("size", [(72, 96), (96, 80), (100, 100), (16, 32), (0, 32)])
def test_illegal_sizes_are_refused_with_the_nearest_legal_one(size: tuple[int, int]) -> None:
    with pytest.raises(SizeError, match=r"multiples of 32; the nearest legal size is \d+ x \d+"):
        check_size(*size)


def test_the_forward_pass_itself_refuses() -> None:
    with pytest.raises(SizeError, match="64 x 80"):
        golden.small()(torch.zeros(1, 3, 64, 80))


@pytest.mark.parametrize("size", [(32, 32), (32, 64), (96, 160)])
def test_any_multiple_of_32_is_taken(size: tuple[int, int]) -> None:
    assert golden.small()(torch.zeros(2, 3, *size)).shape == (2, 1, *size)


@pytest.mark.parametrize(
    ("backbone", "parameters", "tensors"),
    [
        ("swin_v1_t", 44_313_720, 586),
        ("swin_v1_s", 65_631_624, None),
        ("swin_v1_b", 106_228_790, None),
        ("swin_v1_l", 220_176_498, 754),
    ],
)
def test_parameters_are_counted_as_in_the_official_network(
    backbone: str, parameters: int, tensors: int | None
) -> None:
    with torch.device("meta"):
        net = BiRefNet(BACKBONES[backbone])
    state = net.state_dict()
    assert sum(value.numel() for value in net.parameters()) == parameters
    assert tensors in (None, len(state))
    config = infer({key: tuple(value.shape) for key, value in state.items()}, "new")
    assert config == BACKBONES[backbone]
    assert name_of(config) == backbone


def test_a_custom_configuration_is_read_off_its_shapes() -> None:
    state = golden.small("legacy").state_dict()
    config = infer({key: tuple(value.shape) for key, value in state.items()}, "legacy")
    assert config == golden.small("legacy").config
    assert name_of(config) == "swin_custom"


def test_decoder_blocks_may_differ_in_width() -> None:
    given = replace(golden.SMALL, widths=(12, 10, 8, 6, 4))
    state = BiRefNet(given).state_dict()
    assert infer({key: tuple(value.shape) for key, value in state.items()}, "new") == given
    with pytest.raises(ValueError, match="5 decoder blocks"):
        replace(golden.SMALL, widths=(8, 8, 8))


def test_side_outputs_serve_training() -> None:
    logits, sides = golden.small().forward_sides(torch.zeros(1, 3, 64, 96))
    assert logits.shape == (1, 1, 64, 96)
    assert [tuple(side.shape[2:]) for side in sides] == [(2, 3), (4, 6), (8, 12)]
