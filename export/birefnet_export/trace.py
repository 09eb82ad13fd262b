"""PyTorch module to ONNX graph by torch's exporter, with native DeformConv nodes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from onnxscript import opset22 as op
from torch import nn

from . import graph
from .fixed import FixedBiRefNet

# DeformConv is in ONNX since opset 19, Gelu since 20; ONNX Runtime's CPU kernels since 1.25.
OPSET = 22


def to_onnx(network: FixedBiRefNet, batch: int, name: str) -> onnx.ModelProto:
    """The clean graph of ``network``: ``image`` [batch,3,H,W] to ``logits`` [batch,1,H,W]."""
    traced = program(network, torch.zeros(batch, 3, *network.size))
    return graph.clean(traced.model_proto, name)


def program(network: nn.Module, image: torch.Tensor) -> torch.onnx.ONNXProgram:
    """What torch's exporter makes of ``network`` on ``image``: one input, one output."""
    with torch.no_grad(), _quiet():
        traced = torch.onnx.export(
            network.eval(),
            (image,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=[graph.LOGITS],
            custom_translation_table={torch.ops.birefnet.deform_conv.default: _deform_conv},
            verbose=False,
        )
    assert traced is not None
    return traced


def _deform_conv(x: Any, offset: Any, mask: Any, weight: Any, bias: Any) -> Any:
    kernel = weight.shape[2]
    return op.DeformConv(
        x, weight, offset, bias, mask, kernel_shape=[kernel, kernel], pads=[kernel // 2] * 4
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch's exporter says about itself: absent torchvision, its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            yield
        finally:
            logger.setLevel(level)
