"""PyTorch's own half-precision run, on any CPU: what FP16 plans are measured against.

Every operator's inputs and result are half, its inside float32, as on a GPU whose convolutions and
products accumulate in float32. Processors without FP16 arithmetic run half operators minutes
slower, or not at all; this needs only float32 ones.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from .parity import Array, batches

# Asked to change a type, they must; everything else keeps half as half.
_CONVERSIONS = (torch.ops.aten._to_copy.default,)


def run_half(network: nn.Module, images: Array, batch: int) -> Array:
    """Logits [N,1,H,W] float32 of ``network.half()`` on ``images`` [N,3,H,W], float32 sampling."""
    half = copy.deepcopy(network).half()
    with torch.no_grad(), HalfArithmetic():  # type: ignore[no-untyped-call]
        parts = [half(torch.from_numpy(part).half()) for part in batches(images, batch)]
    return np.concatenate([part.float().numpy() for part in parts])[: len(images)]


class HalfArithmetic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operators on half tensors compute in float32 and round their results, once, to half."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _CONVERSIONS or func.is_view or not _any_half(args, kwargs):
            return func(*args, **kwargs)
        if func._schema.is_mutable:
            return _in_place(func, args, kwargs)
        kwargs = {key: _float_type(value) for key, value in kwargs.items()}
        return tree_map(_narrow, func(*tree_map(_widen, args), **tree_map(_widen, kwargs)))


def _in_place(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """An operator that writes into arguments: into float32 copies of them, then rounded back."""
    given = list(args) + list(kwargs.values())
    wide = [tree_map(_widen, value) for value in given]
    names = list(kwargs)
    result = func(*wide[: len(args)], **dict(zip(names, wide[len(args) :], strict=True)))
    for before, after in zip(given, wide, strict=True):
        if isinstance(before, Tensor) and before is not after:
            before.copy_(after)
            if result is after:
                result = before
    return result


def _any_half(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    flat: list[Any] = []
    tree_map(flat.append, (list(args), dict(kwargs)))
    return any(isinstance(value, Tensor) and value.dtype == torch.half for value in flat)


def _float_type(value: Any) -> Any:
    return torch.float32 if value is torch.half else value


def _widen(value: Any) -> Any:
    is_half = isinstance(value, Tensor) and value.dtype == torch.half
    return value.float() if is_half else value


def _narrow(value: Any) -> Any:
    is_float = isinstance(value, Tensor) and value.dtype == torch.float32
    return value.half() if is_float else value
