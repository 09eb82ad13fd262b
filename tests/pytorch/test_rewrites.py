"""Every rewrite of the export is exact: compared with the original in float64, borders included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from birefnet_export import fixed, swin
from birefnet_export.contract import IMAGENET_MEAN, IMAGENET_STD
from birefnet_export.decoder import up
from birefnet_export.fixed import FixedBiRefNet
from birefnet_export.mirror import Mirrored, brightened, smaller
from birefnet_export.rewrites import (
    Affine,
    after,
    columns,
    fold_norm,
    merge,
    split_qkv,
    taps_first,
)
from helpers import golden

# float64 rounding through a few thousand additions; a wrong border or index shows at 1e-2.
EXACT = 1e-12


def conv(channels: int, out: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, padding=kernel // 2, dtype=torch.float64)


def image(channels: int) -> Tensor:
    return torch.randn(2, channels, 7, 9, dtype=torch.float64)


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


@pytest.mark.parametrize("order", ["new", "legacy"])
@pytest.mark.parametrize(("size", "batch"), [((96, 160), 1), ((224, 192), 2), ((32, 32), 3)])
def test_the_fixed_network_is_the_network(order: str, size: tuple[int, int], batch: int) -> None:
    net = golden.small(order).double()
    x = torch.randn(batch, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        assert far(FixedBiRefNet(net, *size).double()(x), net(x)) < EXACT


def test_every_image_counts_as_much_as_the_picture() -> None:
    net = golden.small().double()
    x = torch.randn(2, 3, 96, 160, dtype=torch.float64)
    fixed = FixedBiRefNet(net, 96, 160, mirror=True).double()
    with torch.inference_mode():
        answer = Mirrored(net)(x)
        small = F.interpolate(x, (64, 128), mode="bilinear", align_corners=True)
        others = net(small) + net(brightened(small).flip(3)).flip(3)
        others = F.interpolate(others, (96, 160), mode="bilinear", align_corners=True)
        assert far(answer, (net(x) + others) / 3) < EXACT
        assert far(fixed(x), answer) < EXACT
        # The network alone answers otherwise.
        assert far(net(x), answer) > 1e-3


@pytest.mark.parametrize(
    ("size", "expected"),
    [((576, 576), (512, 512)), ((1024, 1024), (896, 896)), ((32, 64), (32, 32))],
)
def test_the_other_images_are_smaller(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert smaller(*size) == expected


def test_the_mirror_image_is_brighter() -> None:
    rgb = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    mean, std = (rgb.new_tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    # A bicubic picture goes over both ends.
    rgb[0, 0, 0], rgb[0, 1, 0] = -0.05, 1.05
    found = brightened((rgb - mean) / std) * std + mean
    assert far(found, rgb.clamp_min(0) ** 0.75) < EXACT


def test_making_it_leaves_the_network_alone() -> None:
    net = golden.small("legacy")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    FixedBiRefNet(net, 64, 64)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_batch_norm_folds_into_the_convolution() -> None:
    layer, norm = conv(3, 5), nn.BatchNorm2d(5, dtype=torch.float64).eval()
    for value in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        assert value is not None
        value.uniform_(0.5, 2)
    x = image(3)
    assert far(fold_norm(Affine.of(layer), norm).conv()(x), norm(layer(x))) < EXACT


def test_head_before_upsampling() -> None:
    head, p = conv(6, 1, 1), image(6)
    large = torch.zeros(1, 1, 28, 36, dtype=torch.float64)
    assert far(up(head(p), large), head(up(p, large))) < EXACT


def test_pointwise_folds_into_the_convolution_before_it() -> None:
    first, head, x = conv(3, 6), conv(6, 2, 1), image(3)
    pointwise = Affine.of(head)
    folded = after(Affine.of(first), pointwise.weight).conv()
    assert far(folded(x) + pointwise.bias[:, None, None], head(first(x))) < EXACT


def test_image_patch_block_without_its_wide_map() -> None:
    first, second, x = conv(3, 16), conv(16, 1), image(3)
    narrow, gather = taps_first(Affine.of(first), Affine.of(second))
    assert narrow.weight.shape == (9, 3, 3, 3)
    result = Affine(gather, Affine.of(second).bias).conv()(narrow.conv()(x))
    assert far(result, second(first(x))) < EXACT


def test_offset_and_modulation_in_one_convolution() -> None:
    first, second, x = conv(4, 6), conv(4, 3), image(4)
    both = merge(Affine.of(first), Affine.of(second)).conv()(x)
    assert far(both, torch.cat((first(x), second(x)), 1)) < EXACT


def test_pointwise_over_a_concatenation_is_a_sum() -> None:
    mix, parts = conv(10, 4, 1), (image(3), image(7))
    affine = Affine.of(mix)
    none = torch.zeros_like(affine.bias)
    first = Affine(columns(affine, 0, 3), none).conv()(parts[0])
    second = Affine(columns(affine, 3, 10), affine.bias).conv()(parts[1])
    assert far(first + second, mix(torch.cat(parts, 1))) < EXACT


def test_half_pass_joins_before_upsampling() -> None:
    lateral = nn.Module()
    lateral.conv = conv(8, 8, 1)
    p, half = image(8), image(4)
    full = torch.randn(2, 4, 14, 18, dtype=torch.float64)
    expected = up(p, full) + lateral.conv(torch.cat((full, up(half, full)), 1))
    assert far(fixed.FixedLateral(lateral)(p, full, half), expected) < EXACT


def test_attention_scale_inside_q() -> None:
    qkv = nn.Linear(8, 24, dtype=torch.float64)
    x = torch.randn(5, 8, dtype=torch.float64)
    q, k, v = (part.dense()(x) for part in split_qkv(Affine.of(qkv), 2))
    expected = qkv(x)
    assert far(torch.cat((q * 2, k, v), 1), expected) < EXACT


@pytest.mark.parametrize(("height", "width", "window"), [(7, 14, 7), (9, 16, 7), (3, 5, 4)])
@pytest.mark.parametrize("shifted", [False, True])
def test_one_gather_cuts_the_windows(height: int, width: int, window: int, shifted: bool) -> None:
    grid = fixed.Grid(height, width, window)
    x = torch.randn(2, height, width, 3)
    padded = swin.pad_to_windows(x, window)
    shift = window // 2 if shifted else 0
    expected = swin.to_windows(padded.roll((-shift, -shift), (1, 2)), window)
    tokens = x.flatten(1, 2)
    cut = grid.cut(tokens, shifted)
    assert torch.equal(cut.view(expected.shape), expected)
    assert torch.equal(grid.join(cut, shifted), tokens)


@pytest.mark.parametrize(("height", "width", "window"), [(7, 14, 7), (9, 16, 7), (3, 5, 4)])
def test_four_windows_make_the_region_mask(height: int, width: int, window: int) -> None:
    grid = fixed.Grid(height, width, window)
    assert torch.equal(grid.mask()[:, 0], swin.shift_mask(*grid.padded, window))


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 6), (3, 3)])
def test_patch_merging_as_one_transpose(height: int, width: int) -> None:
    x = torch.randn(2, height, width, 5)
    assert torch.equal(fixed.merge_neighbours(x), swin.merge_neighbours(x).flatten(1, 2))


def test_an_opaque_deformable_convolution_adds_its_bias() -> None:
    x, weight, bias = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 1, 1), torch.randn(3)
    out = fixed.deform_conv(x, torch.zeros(1, 2, 4, 4), torch.ones(1, 1, 4, 4), weight, bias)
    # float32 sums of two terms.
    assert torch.allclose(out, F.conv2d(x, weight, bias), atol=1e-6)
