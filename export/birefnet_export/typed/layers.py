"""The layers that every part of the typed graph is made of, from the weights of ``fixed.py``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from birefnet_export.rewrites import Affine, Dense

from .tape import Tape, Value

# Added to the attention logits of tokens that a window's seam keeps apart. Finite, which TensorRT's
# fused attention needs, and half of what FP16 holds: with any logit of the other half the sum stays
# finite, and the softmax gives it no weight. Swin's own -100 is too near: the logits of trained
# weights can lie further apart, as nano's do.
APART = -32752.0


@dataclass(frozen=True)
class Choices:
    """What is open about the graph; every choice gives the same answer up to rounding.

    ``mask``: relative bias and region mask of shifted windows as two additions (``adds``) or summed
    into one constant per block (``constant``; over 0.5 GB for swin_v1_l at 1024). ``columns``: the
    deformable convolutions' products as ``matmul`` or 1x1 ``conv``. ``islands``: False leaves out
    everything that keeps FP16 exact, to see what it is for.
    """

    mask: str = "adds"
    columns: str = "matmul"
    islands: bool = True


def dense(tape: Tape, layer: Dense, x: Value) -> Value:
    """``x @ weight + bias``."""
    out = tape.matmul(x, tape.constant(layer.weight))
    return out if layer.bias is None else tape.add(out, tape.constant(layer.bias))


def side_by_side(*layers: Dense) -> Dense:
    """Products of one input as one, their outputs after each other."""
    parts: list[Tensor] = [layer.weight for layer in layers]
    biases = [
        part.new_zeros(part.shape[1]) if layer.bias is None else layer.bias
        for layer, part in zip(layers, parts, strict=True)
    ]
    return Affine(torch.cat(parts, 1).T, torch.cat(biases)).dense()


def conv(tape: Tape, layer: nn.Conv2d, x: Value) -> Value:
    """A convolution with its bias, or without where the bias is all zeros."""
    bias = layer.bias if layer.bias is not None and bool(layer.bias.any()) else None
    return tape.conv(
        x,
        tape.constant(layer.weight),
        None if bias is None else tape.constant(bias),
        layer.stride[0],
    )


def norm(tape: Tape, layer: nn.LayerNorm, x: Value, islands: bool) -> Value:
    """LayerNorm over the last axis: one operator, or taken apart where ``islands`` is False."""
    assert layer.weight is not None and layer.bias is not None
    scale, bias = tape.constant(layer.weight), tape.constant(layer.bias)
    if islands:
        return tape.layer_norm(x, scale, bias, layer.eps)
    centred = tape.sub(x, tape.mean(x, [-1]))
    variance = tape.mean(tape.mul(centred, centred), [-1])
    spread = tape.unary("Sqrt", tape.add(variance, tape.constant(layer.eps)))
    return tape.add(tape.mul(tape.div(centred, spread), scale), bias)


def gelu(tape: Tape, x: Value) -> Value:
    """The exact GELU, x * (1 + erf(x / sqrt 2)) / 2, in the order that TensorRT fuses."""
    erf = tape.unary("Erf", tape.div(x, tape.constant(2**0.5)))
    product = tape.mul(x, tape.add(erf, tape.constant(1.0)))
    return tape.mul(product, tape.constant(0.5))


def to_body(tape: Tape, x: Value) -> Value:
    """``x`` in the type of the graph's body."""
    return tape.cast(x, tape.body)
