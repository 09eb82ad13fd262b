"""At what resolution an outline is found: what the first pass sees, and what a second one adds.

single   one pass over the whole picture
zoom     a second pass on the subject's box, where that is a small part of the picture
hr       one pass of a model for 2048 pixels or more
tiles    passes at the picture's own resolution along soft edges (see ``tiles``)
auto     zoom where it gains resolution, else one pass
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from birefnet_export.contract import Contract
from birefnet_runtime import mask, tiles
from birefnet_runtime.errors import OptionError
from birefnet_runtime.frame import Box, Floats, View
from birefnet_runtime.matte import Patch, ramp, sample, trust
from birefnet_runtime.options import Options

# Sides for which the HR checkpoints were trained (BiRefNet_HR, BiRefNet_HR-matting).
HR_SIDE = 2048
# The greater of a box's shares of the picture's height and width up to which it is worth a second
# pass. With the margin round it that pass is then at least 1 / (0.7 * 1.2) = 1.19 times finer.
SHARE = 0.7
# Of the box's longer side, on each of its four sides: context for the model and room for the seam.
MARGIN = 0.1
# No zoomed box is longer than this many times its width, or the other way round: a model that
# stretches pictures has seen what photographs become in a square, hardly more.
ASPECT = 2.0
# Alpha above which a pixel belongs to a subject, so that hair which the first pass half sees is in
# the box; and what it must reach somewhere, so that a haze alone is none.
FAINT, SURE = 0.1, 0.5
# A region with less than this share of the largest one's pixels is a speck and moves no box.
SPECK = 0.02
# A zoomed answer counts so many pixels of the first pass's mask round what that left in question:
# as wide as the calm in which the two are compared (``matte.CALM``).
REACH = 4


@dataclass(frozen=True)
class Plan:
    """What follows a first pass: ``views`` for further ones, none where it is enough.

    ``mode``: ``single``, ``zoom``, ``hr`` or ``tiles``; ``note``: why, or how much, in a few words.
    """

    mode: str
    note: str = ""
    views: tuple[View, ...] = ()


def check(options: Options, contract: Contract) -> None:
    """OptionError where the model cannot do what ``options.edge`` says."""
    if options.edge == "hr" and not is_hr(contract):
        raise OptionError(
            f"edge hr needs a model for {HR_SIDE} pixels or more, {contract.name} takes "
            f"{contract.height}x{contract.width}: export ZhengPeng7/BiRefNet_HR or "
            f"ZhengPeng7/BiRefNet_HR-matting with --size {HR_SIDE}, or use edge zoom"
        )


def check_one_pass(options: Options, contract: Contract) -> None:
    """OptionError where ``options`` ask for more than one pass over the stretched picture and what
    a GPU does after it."""
    several = options.edge in ("zoom", "tiles") or (options.fit or contract.fit) != "stretch"
    if several or options.depth != 8 or mask.adjusts(options):
        raise OptionError(
            "a result that stays on the GPU is made in one pass over the stretched picture, 8 bits "
            "deep: use edge single, fit stretch, depth 8 and neither guided, offset, feather nor "
            "levels; or remove() instead of remove_device()"
        )


def is_hr(contract: Contract) -> bool:
    """Whether the model was exported at the size of the HR checkpoints."""
    return min(contract.height, contract.width) >= HR_SIDE


def first(size: tuple[int, int], options: Options, contract: Contract) -> View | None:
    """What the first pass sees of a picture of ``size`` (H, W): all of it, None for stretched."""
    whole = Box(0, 0, *size)
    if (options.fit or contract.fit) == "stretch":
        return None
    return View(whole, _inner(whole, "pad", contract))


def decided(options: Options) -> Plan | None:
    """The plan, where it does not depend on the first pass's answer."""
    if options.edge in ("single", "hr"):
        return Plan(options.edge)
    return None


def inside(answer: Floats, view: View | None, contract: Contract) -> Floats:
    """The part of an answer [h,w], for the whole input, that ``view`` filled."""
    if view is None or view.inner.size == (contract.height, contract.width):
        return answer
    if answer.shape != (contract.height, contract.width):
        size = (contract.width, contract.height)
        answer = np.asarray(cv2.resize(answer, size, interpolation=cv2.INTER_CUBIC), np.float32)
    return np.ascontiguousarray(answer[view.inner.slices])


def follow(coarse: Floats, size: tuple[int, int], options: Options, contract: Contract) -> Plan:
    """What to do after a first pass gave ``coarse``, float32 [h,w] over a picture of ``size``."""
    ready = decided(options)
    if ready is not None:
        return ready
    if size[0] <= contract.height and size[1] <= contract.width:
        return Plan("single", "the picture is no larger than the model's size")
    if options.edge == "tiles":
        return _tiles(coarse, size, contract)
    plan = _zoom(coarse, size, options, contract)
    if options.edge == "auto" and plan.mode == "single" and is_hr(contract):
        return Plan("hr", plan.note)
    return plan


def _tiles(coarse: Floats, size: tuple[int, int], contract: Contract) -> Plan:
    views, count = tiles.views(coarse, size, (contract.height, contract.width))
    if not views:
        return Plan("single", "no soft edge was found")
    return Plan("tiles", f"{len(views)} of {count} along the edges", views)


def _zoom(coarse: Floats, size: tuple[int, int], options: Options, contract: Contract) -> Plan:
    found = subject(coarse, size)
    if found is None:
        return Plan("single", "nothing was found")
    share = max(found.height / size[0], found.width / size[1])
    if share >= SHARE:
        return Plan("single", f"the subject fills {share:.0%} of the picture")
    box = widen(found, size, contract)
    gain = min(size[0] / box.height, size[1] / box.width)
    if max(box.height / size[0], box.width / size[1]) > SHARE * (1 + 2 * MARGIN):
        return Plan("single", "the picture has no finer pixels to offer")
    view = View(box, _inner(box, options.fit or contract.fit, contract))
    return Plan("zoom", f"{gain:.1f} times finer", (view,))


def subject(coarse: Floats, size: tuple[int, int]) -> Box | None:
    """The box, in pixels of a picture of ``size``, of what ``coarse`` [h,w] shows; None: nothing.

    Regions of alpha above FAINT hang together by corners too. One without SURE alpha, or a speck
    beside the largest, does not count.
    """
    mask = (coarse > FAINT).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    sure = np.bincount(labels[coarse >= SURE], minlength=count) > 0
    areas[0] = 0
    kept = (areas > 0) & sure
    if not kept.any():
        return None
    kept &= areas >= SPECK * areas[kept].max()
    low = stats[kept][:, [cv2.CC_STAT_TOP, cv2.CC_STAT_LEFT]]
    high = low + stats[kept][:, [cv2.CC_STAT_HEIGHT, cv2.CC_STAT_WIDTH]]
    scale = np.array(size) / coarse.shape
    top, left = np.floor(low.min(0) * scale).astype(int).tolist()
    bottom, right = np.ceil(high.max(0) * scale).astype(int).tolist()
    return Box(top, left, bottom - top, right - left)


def widen(box: Box, size: tuple[int, int], contract: Contract) -> Box:
    """``box`` with its margin, inside the picture of ``size``; no longer than ASPECT allows, and no
    smaller than the model's input: below that a pass sees no more, only larger."""
    margin = round(MARGIN * max(box.size))
    wanted = [side + 2 * margin for side in box.size]
    longer = max(wanted)
    least = (contract.height, contract.width)
    spans = [
        max(side, round(longer / ASPECT), one) for side, one in zip(wanted, least, strict=True)
    ]
    starts = (box.top, box.left)
    ends = [
        _place(start, side, span, whole)
        for start, side, span, whole in zip(starts, box.size, spans, size, strict=True)
    ]
    (top, height), (left, width) = ends
    return Box(top, left, height, width)


def _place(start: int, side: int, span: int, whole: int) -> tuple[int, int]:
    """(start, length) of ``span`` pixels round ``side`` ones from ``start``, within 0..``whole``.

    Where the picture ends it ends too; it is moved only to keep the model's share of pixels.
    """
    span = min(span, whole)
    first = min(max(start - (span - side) // 2, 0), whole - span)
    return first, span


def _inner(box: Box, fit: str, contract: Contract) -> Box:
    """Where ``box`` lies in the model's input: all over it, or in the middle with its shape."""
    height, width = contract.height, contract.width
    if fit == "stretch":
        return Box(0, 0, height, width)
    scale = min(height / box.height, width / box.width)
    rows, columns = max(1, round(box.height * scale)), max(1, round(box.width * scale))
    rows, columns = min(rows, height), min(columns, width)
    return Box((height - rows) // 2, (width - columns) // 2, rows, columns)


@dataclass(frozen=True)
class Verdict:
    """The patches of a plan, and a few words on what was not believed, or none."""

    patches: tuple[Patch, ...]
    note: str = ""


def judge(
    coarse: Floats, size: tuple[int, int], plan: Plan, answers: list[Floats], contract: Contract
) -> Verdict:
    """Patches of ``answers``, one a view of ``plan``, weighted by how far ``coarse`` agrees."""
    planes = [inside(one, view, contract) for one, view in zip(answers, plan.views, strict=True)]
    if plan.mode == "tiles":
        patches = tiles.patches(coarse, size, plan.views, planes)
        kept = tuple(patch for patch in patches if patch is not None)
        lost = len(patches) - len(kept)
        return Verdict(kept, f"{lost} not believed" if lost else "")
    (view,), (plane,) = plan.views, planes
    believed = trust(coarse, size, view.box, plane)
    weight = np.minimum(believed, _within(coarse, size, view.box, plane.shape))
    doubted = float((believed < 0.5).mean())
    note = f"{doubted:.1%} of the box kept from the first pass" if doubted > 0 else ""
    return Verdict((Patch(plane, view.box, weight),), note)


def _within(coarse: Floats, size: tuple[int, int], box: Box, shape: tuple[int, ...]) -> Floats:
    """float32 of ``shape`` over ``box``, in 0..1: near an edge of ``coarse`` and off the seam.

    Further inside the subject, and outside of it, a second pass has nothing to add but mistakes.
    """
    near = sample(tiles.band(coarse, REACH), Box(0, 0, *size), box, (shape[0], shape[1]))
    found: Floats = np.minimum(near, ramp(box, size, shape, _margins(box, shape)))
    return found


def _margins(box: Box, shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a plane over ``box`` in which it fades in: inside the margin."""
    # The margin is 1/12 of the longer side of the box with it; half of it is left to the model.
    reach = MARGIN / (1 + 2 * MARGIN) / 2 * max(box.size)
    return (
        max(1, round(reach * shape[0] / box.height)),
        max(1, round(reach * shape[1] / box.width)),
    )
