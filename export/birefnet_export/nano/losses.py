"""What training minimises: BCE, soft IoU, SSIM and L1 on alpha; BCE and IoU on the side outputs.

BCE + IoU + SSIM with supervised side outputs is BiRefNet's recipe (Zheng et al. 2024, "Bilateral
Reference for High-Resolution Dichotomous Image Segmentation", section 3; it goes back to BASNet,
Qin et al. 2019). L1 is what matting networks use on fractional alpha (Xu et al. 2017, "Deep Image
Matting"). The weights are ours: every term is of the order of one when a run starts. Trained
weights are also held to what they, or others, answered before: see ``unlike``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 0.3  # weight of each of the three side outputs
L1 = 2.0  # weight of the mean error, unless a stage of training has its own
KNOWN = 0.5  # what a teacher may miss of an object, as ``missed`` measures it, and still teach it
SSIM_WINDOW, SSIM_STRIDE = 7, 3  # every third window: a ninth of the time
# Stabilisers (0.01)^2 and (0.03)^2 of Wang et al. 2004, for a range of one.
C1, C2 = 1e-4, 9e-4


def total(logits: Tensor, sides: list[Tensor], alpha: Tensor, l1: float = L1) -> Tensor:
    """Scalar loss of logits [B,1,H,W] and smaller ``sides`` [B,1,h,w] against alpha in 0..1."""
    loss = final(logits, alpha, l1)
    for side in sides:
        target = F.interpolate(alpha, side.shape[2:], mode="area")
        loss = loss + SIDE * (balanced(side, target) + iou(torch.sigmoid(side), target))
    return loss


def final(logits: Tensor, alpha: Tensor, l1: float = L1) -> Tensor:
    """BCE + IoU + SSIM / 2 + ``l1`` L1.

    Cross-entropy is lowest where alpha is the chance of being object, L1 where it is what is
    likelier. The more of it, the fewer halves of an object come out half transparent.
    """
    guess = torch.sigmoid(logits)
    pixel = balanced(logits, alpha) + l1 * (guess - alpha).abs().mean()
    return pixel + iou(guess, alpha) + 0.5 * (1 - ssim(guess, alpha))


def balanced(logits: Tensor, alpha: Tensor) -> Tensor:
    """Mean binary cross-entropy against soft targets."""
    return F.binary_cross_entropy_with_logits(logits, alpha)


def unlike(logits: Tensor, told: Tensor, alpha: Tensor) -> Tensor:
    """Mean cross-entropy of logits against a teacher's answer ``told`` in 0..1, all [B,1,H,W].

    Pictures whose object the teacher misses count zero: there only the truth teaches. New kinds of
    scenes cost a network old ones that they do not resemble; its old answers, asked for on the new
    pictures, hold these (Li and Hoiem 2016, "Learning without Forgetting").
    """
    known = missed(told, alpha) < KNOWN
    each = F.binary_cross_entropy_with_logits(logits, told, reduction="none")
    return (each.mean(dim=(1, 2, 3)) * known).mean()


def iou(guess: Tensor, alpha: Tensor) -> Tensor:
    """One minus soft intersection over union, mean over pictures; 1 % floor for empty ones."""
    return missed(guess, alpha).mean()


def missed(guess: Tensor, alpha: Tensor) -> Tensor:
    """``iou`` of every picture, [B].

    By the smaller and the larger of both values, which is lowest where ``guess`` is ``alpha`` (Wang
    et al. 2023, "Jaccard Metric Losses"). The usual product is not: on glass that is 0.7 opaque it
    falls until the guess is one. On an alpha of zeros and ones both are the same.
    """
    both = torch.minimum(guess, alpha).mean(dim=(1, 2, 3))
    either = torch.maximum(guess, alpha).mean(dim=(1, 2, 3))
    return 1 - (both + 0.01) / (either + 0.01)


def ssim(guess: Tensor, alpha: Tensor) -> Tensor:
    """Mean structural similarity with a box window of ``SSIM_WINDOW`` pixels (Wang et al. 2004)."""

    def local(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, SSIM_WINDOW, SSIM_STRIDE)

    mean_a, mean_b = local(guess), local(alpha)
    spread = local(guess * guess) - mean_a**2 + local(alpha * alpha) - mean_b**2
    common = local(guess * alpha) - mean_a * mean_b
    light = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return (light * (2 * common + C2) / (spread + C2)).mean()
