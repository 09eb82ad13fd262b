"""The PyTorch network as an executor: float32, half and compiled, on CUDA or on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from birefnet_export.half import HalfArithmetic
from birefnet_export.parity import Array, sigmoid


def prepare(name: str, network: nn.Module, cuda: bool) -> tuple[nn.Module, Callable[[], Any]]:
    """The network as ``name`` runs it, and the context that its runs need."""
    half = name != "torch-fp32"
    if half or cuda:
        network = copy.deepcopy(network)
    if half:
        network = network.half()
    if cuda:
        # TF32 keeps 11 of float32's 24 bits.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        network = network.cuda()
    rounding: Callable[[], AbstractContextManager[Any]] = (
        HalfArithmetic if half and not cuda else nullcontext
    )
    return network, rounding


def starter(
    name: str, network: nn.Module, cuda: bool
) -> tuple[Callable[[int], Callable[[Array], Array]], str]:
    """How ``TensorExecutor`` starts it, for any batch, and what it is in words."""
    ready, rounding = prepare(name, network, cuda)
    device, half = "cuda" if cuda else "cpu", name != "torch-fp32"
    called: Callable[[Tensor], Tensor] = ready
    if name == "torch-compile":
        called = torch.compile(ready)

    def run(part: Array) -> Array:
        image = torch.from_numpy(part).to(device)
        with torch.no_grad(), rounding():
            logits = called(image.half() if half else image)
        return sigmoid(logits[:, 0].float().cpu().numpy()).astype(np.float32)

    return lambda batch: run, _describe(name, cuda)


def _describe(name: str, cuda: bool) -> str:
    where = torch.cuda.get_device_name() if cuda else "CPU"
    if name == "torch-fp32":
        return f"PyTorch {torch.__version__}, float32 on {where}"
    if name == "torch-compile":
        return f"PyTorch {torch.__version__}, half, compiled, on {where}"
    rounded = "" if cuda else ", each operator rounded"
    return f"PyTorch {torch.__version__}, half on {where}{rounded}"
