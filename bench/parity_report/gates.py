"""What each executor must keep to, by the contract or else by the design, and whether it does."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from birefnet_export.contract import Contract
from birefnet_export.parity import ALPHA_MAX, ALPHA_MEAN
from birefnet_export.typed import proof
from birefnet_export.typed.proof import FACTOR, MEAN, P999

from .figures import Figures
from .verdicts import Gate, Verdict

YARDSTICK = "torch-half"
# Rows of one batch go through the same arithmetic, but sums may be split in another way: what an
# executor may differ from float32 on average is far above that, and far below a row mixed up.
ROWS = {"fp32": ALPHA_MAX, "fp16": P999}


def find(name: str, precision: str, contract: Contract, half: Figures | None) -> Gate:
    """The gate of one executor; ``half``: PyTorch's own half-precision run, where it was run."""
    if name == YARDSTICK:
        return Gate({}, "what FP16 is measured by")
    if precision == "fp32":
        return _float32(contract)
    exported: dict[str, Any] = contract.parity.get("tensorrt", {})
    if exported.get("precision") == "fp16" and "gate" in exported:
        return _exported({key: float(exported["gate"][key]) for key in ("mean", "p999")}, half)
    found = proof.gate(_distance(half)) if half else proof.Gate(MEAN, P999)
    return Gate(asdict(found), "design, beside torch-half" if half else "design")


def _float32(contract: Contract) -> Gate:
    exported = contract.parity.get("onnxruntime", {}).get("gate", {})
    if "alpha_max" in exported and "alpha_mean" in exported:
        limits = {"max": float(exported["alpha_max"]), "mean": float(exported["alpha_mean"])}
        return Gate(limits, "contract")
    return Gate({"max": ALPHA_MAX, "mean": ALPHA_MEAN}, "design")


def _exported(limits: dict[str, float], half: Figures | None) -> Gate:
    """The export's limits, made on its own pictures; where PyTorch's half run on these ones is
    further away than it was there, FACTOR times that run counts.
    """
    if half is None:
        return Gate(limits, "contract")
    wider = {"mean": FACTOR * half.mean, "p999": FACTOR * half.p999 if half.p999 > P999 else 0.0}
    used = {key: max(limit, wider[key]) for key, limit in limits.items()}
    return Gate(used, "contract" if used == limits else "contract, beside torch-half")


def _distance(half: Figures) -> proof.Distance:
    return proof.Distance(half.mean, half.p999, half.max, 1 - half.beyond2, 1)


def judge(gate: Gate, total: Figures, rows: float | str, precision: str) -> Verdict:
    """The verdict on the figures over all pictures and on the row check's maximum (or a reason)."""
    reasons = [] if total.finite else ["an alpha is not finite"]
    for key, limit in gate.limits.items():
        value = float(getattr(total, key))
        # Written so that a NaN is outside.
        if not value <= limit:
            name = {"p999": "99.9 %"}.get(key, key)
            reasons.append(f"{name} {value * 255:.4g}/255 is beyond {limit * 255:.4g}/255")
    if gate.limits and isinstance(rows, float) and not rows <= ROWS[precision]:
        reasons.append(f"a row of a batch is {rows * 255:.4g}/255 from the picture run alone")
    return Verdict(gate, reasons)
