"""A cut-out as the body and the headers of an answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from starlette.requests import Request

from birefnet_runtime.cutout import Cutout
from birefnet_runtime.frame import Box
from birefnet_runtime.score import Score

_TYPES = {
    ".png": "image/png",
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
    ".tiff": "image/tiff",
    ".avif": "image/avif",
    ".zip": "application/zip",
}
# Without those that a header or a file system reads otherwise.
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Answer:
    """``data``: the file, in the format of ``suffix``, height x width pixels. ``box``: where the
    subject lies in the picture before it is cropped, or None. ``score``, ``edge``: see Cutout."""

    data: bytes
    suffix: str
    height: int
    width: int
    box: Box | None
    score: Score
    edge: str

    @property
    def format(self) -> str:
        """``suffix`` without its dot."""
        return self.suffix[1:]


def make(cutout: Cutout, suffix: str) -> Answer:
    """Encode ``cutout``; takes its time, so it belongs into a worker. Raises OutputError."""
    area = cutout.area
    return Answer(
        cutout.encode(suffix),
        suffix,
        area.height,
        area.width,
        cutout.box,
        cutout.score,
        cutout.edge,
    )


def media_type(suffix: str) -> str:
    """The Content-Type of a file with ``suffix``."""
    return _TYPES[suffix]


def facts(answer: Answer) -> dict[str, str]:
    """What the headers say about the cut-out."""
    box, score = answer.box, answer.score
    found = {"X-Width": str(answer.width), "X-Height": str(answer.height)}
    if box is not None:
        found["X-Foreground-Top"] = str(box.top)
        found["X-Foreground-Left"] = str(box.left)
        found["X-Foreground-Width"] = str(box.width)
        found["X-Foreground-Height"] = str(box.height)
    found["X-Foreground-Found"] = "true" if score.found else "false"
    found["X-Foreground-Share"] = f"{score.share:.4f}"
    found["X-Uncertainty-Score"] = f"{score.uncertainty:.4f}"
    found["X-Edge"] = answer.edge
    return found


def server_timing(seconds: Mapping[str, float]) -> str:
    """The value of Server-Timing, in milliseconds."""
    return ", ".join(f"{name};dur={1000 * value:.1f}" for name, value in seconds.items())


def disposition(name: str | None, suffix: str) -> str:
    """The value of Content-Disposition: what a browser may call the answer.

    ``name``: what the client called its picture; of that, letters, digits, dots, lines and dashes
    stay.
    """
    stem = PurePosixPath((name or "").replace("\\", "/")).stem
    stem = _NO_NAME.sub("_", stem)[:_LONGEST_NAME].strip("._-")
    return f'inline; filename="{stem or "picture"}-cutout{suffix}"'


def wants_json(request: Request) -> bool:
    """Whether the client asks for JSON rather than a picture."""
    return any(
        part.split(";")[0].strip().lower() == "application/json"
        for part in request.headers.get("accept", "").split(",")
    )
