"""Deformable convolution: both forms against its definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from birefnet_export import deform
from birefnet_export.deform import deform_conv2d


def inputs(kernel: int, spread: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(kernel)
    x = torch.randn(2, 3, 6, 9, dtype=torch.float64)
    offset = torch.randn(2, 2 * kernel**2, 6, 9, dtype=torch.float64) * spread
    mask = torch.rand(2, kernel**2, 6, 9, dtype=torch.float64) * 2
    return x, offset, mask, torch.randn(4, 3, kernel, kernel, dtype=torch.float64)


def by_definition(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """The sum over taps and pixels written out, one bilinear sample at a time."""
    batch, _, height, width = x.shape
    kernel = weight.shape[2]
    out = x.new_zeros(batch, weight.shape[0], height, width)
    for b, i, j, tap in torch.cartesian_prod(*map(torch.arange, (batch, height, width, kernel**2))):
        row, column = tap // kernel, tap % kernel
        y = i - kernel // 2 + row + offset[b, 2 * tap, i, j]
        z = j - kernel // 2 + column + offset[b, 2 * tap + 1, i, j]
        sample = bilinear(x[b], float(y), float(z)) * mask[b, tap, i, j]
        out[b, :, i, j] += weight[:, :, row, column] @ sample
    return out


def bilinear(image: Tensor, y: float, x: float) -> Tensor:
    total = image.new_zeros(image.shape[0])
    for row in (int(y // 1), int(y // 1) + 1):
        for column in (int(x // 1), int(x // 1) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                total += image[:, row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("spread", [0.3, 4.0])
def test_both_forms_are_the_definition(kernel: int, spread: float) -> None:
    tensors = inputs(kernel, spread)
    expected = by_definition(*tensors)
    with torch.no_grad():
        plain = deform_conv2d(*tensors)
    trained = deform_conv2d(*(tensor.requires_grad_() for tensor in tensors))
    # float64 sums of at most 27 terms in another order.
    assert (plain - expected).abs().max() < 1e-12
    assert (trained - expected).abs().max() < 1e-12


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = inputs(3, 2.0)
    whole = deform_conv2d(*tensors)
    monkeypatch.setattr(deform, "GATHER", 200)
    # The matrix product of a chunk may sum in another order.
    assert (deform_conv2d(*tensors) - whole).abs().max() < 1e-12


def test_without_offsets_it_is_a_convolution() -> None:
    x, offset, mask, weight = inputs(3, 0.0)
    expected = F.conv2d(x, weight, padding=1)
    # float64 sums in another order.
    assert (deform_conv2d(x, offset, torch.ones_like(mask), weight) - expected).abs().max() < 1e-12


def test_gradients_of_every_input() -> None:
    x, offset, mask, weight = inputs(1, 0.3)
    # Away from whole pixels, where the bilinear weight has a kink.
    offset = offset.frac() * 0.4 + 0.5
    tensors = tuple(tensor[:1].contiguous().requires_grad_() for tensor in (x, offset, mask))
    assert torch.autograd.gradcheck(deform_conv2d, (*tensors, weight.requires_grad_()))


def test_one_pixel_maps() -> None:
    x, offset, mask, weight = inputs(3, 0.0)
    one = deform_conv2d(x[..., :1, :1], offset[..., :1, :1], mask[..., :1, :1], weight)
    expected = torch.einsum("bc,oc->bo", x[..., 0, 0] * mask[:, 4, 0, 0, None], weight[..., 1, 1])
    assert torch.allclose(one[..., 0, 0], expected)
    with pytest.raises(ValueError, match="64x64"):
        deform_conv2d(
            x[..., :1, :1].requires_grad_(), offset[..., :1, :1], mask[..., :1, :1], weight
        )
