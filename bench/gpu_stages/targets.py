"""What is asked of swin_v1_l on an H200, batch 1, FP16; figures are judged, never filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NETWORK, GPU = "swin_v1_l", "H200"


@dataclass(frozen=True)
class Target:
    """``text`` with a value ``at most`` or, where ``least``, at least ``limit``.

    ``anywhere``: it is asked of every network and GPU.
    """

    text: str
    limit: float
    unit: str = ""
    least: bool = False
    anywhere: bool = False

    def met(self, value: float) -> bool:
        """A NaN meets nothing."""
        return value >= self.limit if self.least else value <= self.limit


TARGETS = {
    "engine": Target("engine with the captured graph, wall", 10.0, " ms"),
    "eager": Target("faster than PyTorch eager FP16", 3.0, " times", least=True),
    "compile": Target("faster than torch.compile max-autotune FP16", 1.5, " times", least=True),
    "path": Target("12 megapixels, pinned to pinned, over the engine alone", 1.3, " times"),
    "busy": Target("GPU busy with engines during stream()", 90.0, " %", least=True),
    # The typed graph's own gate (birefnet_export.typed.proof.FACTOR), seen on the GPU.
    "half": Target("distance from fp32 over PyTorch half's", 1.25, " times", anywhere=True),
    # The driver hands out memory in pieces of 2 MiB; one may come and go with somebody else's.
    "growth": Target("growth of device memory over stream()", 2.0, " MiB", anywhere=True),
}


@dataclass(frozen=True)
class Verdict:
    """A figure beside its target. ``remark``: why the target was not set for this one, or ""."""

    key: str
    network: str
    value: float
    remark: str

    @property
    def met(self) -> bool:
        return TARGETS[self.key].met(self.value)

    def line(self) -> str:
        """Such as ``swin_v1_l: engine with ...: 8.90 ms, target at most 10 ms: met``."""
        target = TARGETS[self.key]
        bound = "at least" if target.least else "at most"
        verdict = "met" if self.met else "NOT MET"
        return (
            f"  {self.network}: {target.text}: {self.value:.2f}{target.unit}, target {bound} "
            f"{target.limit:g}{target.unit}: {verdict}{self.remark and f' ({self.remark})'}"
        )

    def as_dict(self) -> dict[str, Any]:
        """For the record."""
        target = TARGETS[self.key]
        return {
            "target": f"{self.network}: {target.text}",
            "limit": target.limit,
            "value": self.value,
            "unit": target.unit.strip(),
            "met": self.met,
            "remark": self.remark,
        }


def judge(key: str, network: str, value: float, gpu: str) -> Verdict:
    """``value`` beside the target ``key``, measured with ``network`` on ``gpu``."""
    others = []
    if not TARGETS[key].anywhere:
        others = [f"for {NETWORK}"] * (network != NETWORK) + [f"on an {GPU}"] * (GPU not in gpu)
    remark = f"set {' '.join(others)}" if others else ""
    return Verdict(key, network, value, remark)
