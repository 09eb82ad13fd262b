"""The released checkpoints, as data: what their files do not say about themselves.

The repositories' config.json is the same everywhere and names neither backbone nor size; a
checkpoint's patch order stands nowhere. Sources: the Hugging Face cards, the official repository's
history (the order changed on 2024-11-05 in commit 5198d3f without a weight conversion) and
RMBG-2.0's own birefnet.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NON_COMMERCIAL = (
    "RMBG-2.0 is licensed CC BY-NC 4.0: non-commercial use only; commercial use needs a licence "
    "from BRIA AI. BiRefNet's own weights are MIT."
)


@dataclass(frozen=True)
class Release:
    """One released checkpoint. ``height`` and ``width`` are the size it was trained for.

    ``precision`` is the float type of the file; ``notice`` is printed at export and goes into the
    contract.
    """

    repo: str
    backbone: str
    patch_order: str
    height: int = 1024
    width: int = 1024
    task: str = "general"
    licence: str = "MIT"
    precision: str = "float32"
    notice: str = ""

    @property
    def name(self) -> str:
        """The repository's own name, as the model's default name."""
        return self.repo.partition("/")[2]


_ZP = "ZhengPeng7/"
DEFAULT = f"{_ZP}BiRefNet"
_L, _T = "swin_v1_l", "swin_v1_t"

RELEASES = (
    Release(DEFAULT, _L, "legacy", precision="float16"),
    Release(f"{_ZP}BiRefNet_lite", _T, "legacy"),
    Release(f"{_ZP}BiRefNet_T", _T, "legacy"),
    Release(f"{_ZP}BiRefNet_lite-2K", _T, "legacy", 1440, 2560),
    Release(f"{_ZP}BiRefNet_HR", _L, "new", 2048, 2048, precision="float16"),
    # Trained on 256..2304 pixels a side; 1024 is where its card evaluates it.
    Release(f"{_ZP}BiRefNet_dynamic", _L, "new", precision="float16"),
    Release(f"{_ZP}BiRefNet_512x512", _L, "new", 512, 512, precision="float16"),
    Release(f"{_ZP}BiRefNet-matting", _L, "legacy", task="matting"),
    Release(f"{_ZP}BiRefNet-portrait", _L, "legacy", task="portrait"),
    Release(f"{_ZP}BiRefNet_HR-matting", _L, "new", 2048, 2048, "matting", precision="float16"),
    Release(f"{_ZP}BiRefNet_dynamic-matting", _L, "new", task="matting", precision="float16"),
    Release(f"{_ZP}BiRefNet_lite-matting", _T, "new", task="matting", precision="float16"),
    Release(f"{_ZP}BiRefNet-legacy", _L, "legacy"),
    Release(f"{_ZP}BiRefNet-DIS5K", _L, "legacy", task="dis"),
    Release(f"{_ZP}BiRefNet-DIS5K-TR_TEs", _L, "legacy", task="dis"),
    Release(f"{_ZP}BiRefNet-HRSOD", _L, "legacy", task="hrsod"),
    Release(f"{_ZP}BiRefNet-COD", _L, "legacy", task="cod"),
    Release("briaai/RMBG-2.0", _L, "legacy", licence="CC-BY-NC-4.0", notice=NON_COMMERCIAL),
)

# First 12 hex digits of the sha256 of published files, so that a bare download is recognised.
FILES = {
    "e3d2e4884e51": f"{_ZP}BiRefNet_dynamic",
    "9d678bafec0b": f"{_ZP}BiRefNet_HR",
    "4417d8979525": f"{_ZP}BiRefNet_lite",
    "aa2e4a5af5eb": f"{_ZP}BiRefNet_lite-2K",
    "11341a6a1c12": DEFAULT,  # BiRefNet-general-epoch_244.pth
    "31602ac94f0b": f"{_ZP}BiRefNet-DIS5K",  # BiRefNet-DIS-epoch_590.pth
}


def by_repo(repo: str) -> Release | None:
    """The release of a Hugging Face id, upper and lower case alike, or None."""
    return next((release for release in RELEASES if release.repo.lower() == repo.lower()), None)


def by_hash(digest: str) -> Release | None:
    """The release whose published file has this sha256, or None."""
    repo = FILES.get(digest[:12])
    return None if repo is None else by_repo(repo)


def by_cache_path(path: Path) -> Release | None:
    """The release of a path inside a Hugging Face cache (``models--ORG--NAME``), or None."""
    for part in path.absolute().parts:
        if match := re.fullmatch(r"models--(.+?)--(.+)", part):
            return by_repo(f"{match[1]}/{match[2]}")
    return None
