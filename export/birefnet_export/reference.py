"""One export under way, and PyTorch's float32 answer, which every file of it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import parity
from .contract import Contract
from .fixed import FixedBiRefNet
from .mirror import answering
from .network import BiRefNet
from .parity import Array
from .pictures import Picture, fixed_pictures, normalise

# Pictures that parity is measured on and reference.npz carries.
PICTURES = 2


@dataclass(frozen=True)
class Answer:
    """Fixed pictures uint8 [N,H,W,3], the same normalised [N,3,H,W], and PyTorch's logits."""

    pictures: Picture
    images: Array
    logits: Array


def reference(network: BiRefNet, contract: Contract, count: int = PICTURES) -> Answer:
    """PyTorch's answer on the first ``count`` fixed pictures."""
    pictures = fixed_pictures(count, contract.height, contract.width)
    images = normalise(pictures, contract.mean, contract.std)
    logits = parity.run_torch(answering(network, contract.mirror), images, contract.batch)
    return Answer(pictures, images, logits)


@dataclass
class Work:
    """One export under way: its network, the same as written, what is known, where files go."""

    network: BiRefNet
    fixed: FixedBiRefNet
    contract: Contract
    answer: Answer
    folder: Path

    @classmethod
    def begin(cls, network: BiRefNet, contract: Contract, folder: Path) -> Work:
        """Run PyTorch once and fix the network's size."""
        answer = reference(network, contract)
        fixed = FixedBiRefNet(network, contract.height, contract.width, contract.mirror)
        return cls(network, fixed, contract, answer, folder)
