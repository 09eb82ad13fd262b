"""BiRefNet as a typed ONNX graph for TensorRT 8.6 to 11: the order of its parts."""

from __future__ import annotations

from typing import cast

import onnx
import torch

from birefnet_export.contract import IMAGENET_MEAN, IMAGENET_STD
from birefnet_export.fixed import (
    FixedBiRefNet,
    FixedDecBlk,
    FixedHead,
    FixedLateral,
    FixedLevel,
    FixedPatches,
    Grids,
)
from birefnet_export.graph import ALPHA, LOGITS
from birefnet_export.mirror import smaller

from .backbone import backbone
from .layers import Choices, conv, to_body
from .pyramid import block
from .tape import FLOAT, HALF, Tape, Value

PRECISIONS = {"fp16": HALF, "fp32": FLOAT}


def typed_graph(
    network: FixedBiRefNet,
    batch: int,
    name: str,
    precision: str = "fp16",
    head: str = ALPHA,
    choices: Choices | None = None,
) -> onnx.ModelProto:
    """The graph of ``network``: ``image`` float32 [batch,3,H,W] to ``head`` float32 [batch,1,H,W].

    ``precision`` is that of the body; sampling, pooling and the last logits are float32 always.
    Raises ExportError when a weight does not fit FP16.
    """
    tape = Tape(PRECISIONS[precision])
    chosen = choices or Choices()
    image = tape.input("image", (batch, 3, *network.size))
    if network.mirror:
        logits = _mirrored(tape, network, image, chosen)
    else:
        logits = _logits(tape, network, network.grids, image, chosen)
    with tape.island():
        out = tape.unary("Sigmoid", logits) if head == ALPHA else logits
    assert head in (ALPHA, LOGITS)
    return tape.finish(out, head, name)


def _mirrored(tape: Tape, net: FixedBiRefNet, image: Value, choices: Choices) -> Value:
    """The mean of the logits of three images of a picture: see ``with_mirror_image``."""
    plain, count = _logits(tape, net, net.grids, image, choices), image.shape[0]
    with tape.scope("mirror"):
        with tape.island():
            small = tape.resize(image, *smaller(*net.size))
            both = tape.concat([small, tape.mirror(_brightened(tape, small))], 0)
        logits = _logits(tape, net, net.mirror_grids, both, choices)
        with tape.island():
            same, turned = (tape.slice(logits, 0, i * count, (i + 1) * count) for i in (0, 1))
            others = tape.resize(tape.add(same, tape.mirror(turned)), *net.size)
    with tape.island():
        return tape.mul(tape.add(plain, others), tape.constant(1 / 3))


def _brightened(tape: Tape, image: Value) -> Value:
    """``mirror.brightened``."""
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    scale, black = tape.constant(std), tape.constant(-mean)
    rgb = tape.add(tape.mul(image, scale), tape.constant(mean))
    root = tape.unary("Sqrt", tape.unary("Relu", rgb))
    return tape.div(tape.add(tape.mul(root, tape.unary("Sqrt", root)), black), scale)


def _logits(tape: Tape, net: FixedBiRefNet, grids: Grids, image: Value, choices: Choices) -> Value:
    with tape.island(choices.islands):
        small = tape.resize(tape.cast(image), *grids.half_size)
    body = to_body(tape, image)
    with tape.scope("bb", "full"):
        full = backbone(tape, net.bb, grids.at_full, body, choices)
    with tape.scope("bb", "half"):
        half = backbone(tape, net.bb, grids.at_half, to_body(tape, small), choices)
    with tape.scope("squeeze"):
        p = _squeeze(tape, net.squeeze, full, half, choices)
    for number, level in zip((4, 3, 2), net.levels, strict=True):
        skip = number - 2
        with tape.scope(f"level{number}"):
            p = _level(tape, cast(FixedLevel, level), p, body, (full[skip], half[skip]), choices)
    with tape.scope("level1"):
        return _head(tape, net.head, p, image, body, choices)


def _squeeze(
    tape: Tape, net: FixedDecBlk, full: list[Value], half: list[Value], choices: Choices
) -> Value:
    """All maps of both passes at the size of the deepest, then the first decoder block."""
    size = full[3].shape[2:]
    parts = []
    for one, two in zip(full, half, strict=True):
        parts += [tape.resize(one, *size)]
        parts += [tape.resize(tape.resize(two, *one.shape[2:]), *size)]
    p = block(tape, net, tape.concat(parts, 1), choices)
    return conv(tape, net.conv_out, to_body(tape, p))


def _patches(tape: Tape, net: FixedPatches, image: Value) -> Value:
    """Tiles of the image as channels, through two convolutions."""
    grid = net.grid
    batch, colours, height, width = image.shape
    rows, columns = height // grid, width // grid
    with tape.scope("image"):
        x = tape.reshape(image, batch, colours, grid, rows, grid, columns)
        x = tape.transpose(x, 0, 1, 2, 4, 3, 5)
        x = tape.reshape(x, batch, colours * grid**2, rows, columns)
        return conv(tape, net.conv2, conv(tape, net.conv1, x))


def _level(
    tape: Tape,
    net: FixedLevel,
    p: Value,
    image: Value,
    skips: tuple[Value, Value],
    choices: Choices,
) -> Value:
    """Image patches, block, gradient attention, then the skip connections of both passes."""
    p = tape.concat([p, _patches(tape, net.patches, image)], 1)
    p = to_body(tape, block(tape, net.block, p, choices))
    p = conv(tape, net.block.conv_out, p)
    with tape.scope("gradient"):
        gradient = tape.unary("Relu", conv(tape, net.gradient, p))
        p = tape.mul(p, tape.unary("Sigmoid", conv(tape, net.attention, gradient)))
    with tape.scope("lateral"):
        return _lateral(tape, net.lateral, p, *skips)


def _lateral(tape: Tape, net: FixedLateral, p: Value, full: Value, half: Value) -> Value:
    joined = tape.add(p, conv(tape, net.half_conv, half))
    return tape.add(tape.resize(joined, *full.shape[2:]), conv(tape, net.full_conv, full))


def _head(
    tape: Tape, net: FixedHead, p: Value, image: Value, body: Value, choices: Choices
) -> Value:
    """Level 1 and the logits [B,1,H,W] in float32."""
    p = tape.concat([p, _patches(tape, net.patches, body)], 1)
    p = block(tape, net.block, p, choices)
    with tape.island(choices.islands):
        p = conv(tape, net.block.conv_out, tape.cast(p))
        detail = conv(tape, net.image2, conv(tape, net.image1, tape.cast(image)))
        logits = tape.add(tape.resize(p, *image.shape[2:]), detail)
    return tape.cast(logits, FLOAT)
