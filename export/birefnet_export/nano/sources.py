"""Source pictures: cut-outs and photographs, from Debian packages or made up on the spot."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from birefnet_export.contract import BirefnetError

from .raster import Bytes, to_bytes
from .texture import procedural

CLIPART = Path("/usr/share/openclipart/png")
STAMPS = Path("/usr/share/tuxpaint/stamps")
WALLPAPERS = (Path("/usr/share/backgrounds"), Path("/usr/share/wallpapers"))
# Debian packages and the licences of their pictures, which are trained on and never shipped.
PACKAGES = {
    "openclipart-png": "public domain",
    "tuxpaint-stamps-default": "GPL-2",
    "gnome-backgrounds": "CC BY-SA 3.0, CC BY-SA 2.0, CC BY 2.0",
    "mate-backgrounds": "GPL-2+, CC BY-SA 4.0",
    "plasma-workspace-wallpapers": "GPL-2+",
    "lomiri-wallpapers-20.04": "CC BY-SA 4.0, CC BY-SA 3.0, CC BY 4.0, CC0, Expat",
}
# Folders of openclipart 0.18 that hold things; icons, stars, flags, arrows and signs are left out.
FOLDERS = (
    "animals", "buildings", "computer/hardware", "containers", "decorations", "education",
    "electronics", "food", "office", "people", "plants", "recreation", "science", "tools",
    "transportation/vehicles", "transportation/boating", "unsorted",
)  # fmt: skip
# Folders of stamps that hold photographs, outside those called "cartoon".
STAMP_FOLDERS = (
    "animals", "food", "hobbies", "household", "military", "people", "plants", "space", "sports",
    "symbols/money", "town", "vehicles",
)  # fmt: skip
# A sharp subject in the middle must not be taught as background.
SUBJECTS = {
    "FreshFlower", "YellowFlower", "FlyingKonqui", "GreenTraditional", "OneStandsOut",
    "Garden", "LadyBird", "TwoWings", "SafeLanding", "Arc-Colors-Transparent-Wallpaper",
    "Kleiber_by_Lukas_Baubkus", "Picture_0B_by_freespace", "Wine_by_Jakkub_Mede",
    "free_by_Peter_Nerlich", "friends_by_Aitzol_Berasategi", "seeding_by_Clements_Engelhardt",
}  # fmt: skip
PHOTO_SIDE = 900  # pixels of a kept photograph's short side: crops of a tenth stay sharp enough
LARGEST = 4_000_000  # pixels of a cut-out worth decoding: a few of the package have 170 million
HELD_OUT = 8  # one source in this many is for evaluation only


class SourcesMissing(BirefnetError):
    """The Debian packages with the source pictures are not installed."""


@dataclass(frozen=True)
class Sources:
    """``cutouts`` uint8 [H,W,4] straight RGBA, ``photos`` uint8 [H,W,3] RGB; never written to.

    ``stamps`` are cut-outs as well, of photographs instead of drawings.
    """

    cutouts: list[Bytes]
    photos: list[Bytes]
    stamps: list[Bytes]


def synthetic(seed: int, count: int = 4, size: int = 96) -> Sources:
    """Sources from nothing: procedural surfaces as photos, discs of them as cut-outs. For tests."""
    rng = np.random.default_rng(seed)
    photos = [to_bytes(procedural(rng, size)) for _ in range(count)]
    y, x = np.mgrid[0:size, 0:size]
    disc = (np.hypot(x - size / 2, y - size / 2) < size * 0.4).astype(np.uint8) * 255
    discs = [np.dstack([photo, disc]) for photo in photos]
    return Sources(discs, photos, discs)


def debian(held_out: bool, workers: int = 2) -> Sources:
    """The installed pictures: those for training, or the eighth held out for evaluation.

    Decoded by so many ``workers``.

    Raises ``SourcesMissing`` with the command that installs them.
    """
    art, stamps, walls = found()
    if len(art) < 1000 or len(walls) < 20 or len(stamps) < 200:
        raise SourcesMissing(
            f"found {len(art)} cut-outs under {CLIPART}, {len(stamps)} photographed ones under "
            f"{STAMPS} and {len(walls)} photographs under "
            f"{', '.join(map(str, WALLPAPERS))}, as dpkg lists them; "
            f"run: apt-get install {' '.join(PACKAGES)}"
        )
    with ProcessPoolExecutor(workers) as pool:
        cutouts = list(pool.map(cutout, pick(art, held_out), chunksize=64))
        objects = list(pool.map(cutout, pick(stamps, held_out), chunksize=16))
        photos = list(pool.map(photo, pick(walls, held_out), chunksize=4))
    return Sources(
        [c for c in cutouts if c is not None],
        [p for p in photos if p.std() > 4],
        [o for o in objects if o is not None],
    )


def pick(paths: list[Path], held_out: bool) -> list[Path]:
    """The paths of one side of the split, in a stable order."""
    chosen = []
    for path in sorted(set(paths)):
        digest = hashlib.sha256(str(path).encode()).digest()
        if (digest[0] % HELD_OUT == 0) == held_out:
            chosen.append(path)
    return chosen


def found() -> tuple[list[Path], list[Path], list[Path]]:
    """Cut-outs, photographed ones and photographs among the files of ``PACKAGES``, not decoded.

    Scenes name them by number: without the last of the 14 photographs that are held out, half of
    the held-out scenes are others.
    """
    files = owned()
    art = {path for folder in FOLDERS for path in (CLIPART / folder).rglob("*.png")}
    return sorted(art & files), list(photographed(files)), list(wallpapers(files))


def owned() -> set[Path]:
    """The files of ``PACKAGES`` as dpkg lists them; none where there is no dpkg."""
    try:
        listed = subprocess.run(
            ["dpkg-query", "-L", *PACKAGES], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return set()
    return {Path(line) for line in listed.stdout.splitlines()}


def listing() -> dict[str, int | str]:
    """How many files of each sort there are to choose from, and the SHA-256 of their names."""
    sorts = dict(zip(("cutouts", "stamps", "photos"), found(), strict=True))
    names = "\n".join(str(path) for paths in sorts.values() for path in paths)
    digest = hashlib.sha256(names.encode()).hexdigest()
    return {name: len(paths) for name, paths in sorts.items()} | {"sha256": digest}


def photographed(files: set[Path]) -> Iterator[Path]:
    """The stamps among ``files`` that are photographs."""
    for folder in STAMP_FOLDERS:
        for path in sorted(files.intersection((STAMPS / folder).rglob("*.png"))):
            if "cartoon" not in path.parts:
                yield path


def wallpapers(files: set[Path]) -> Iterator[Path]:
    """One of ``files`` per picture: the same comes in many sizes, often as links to one file."""
    for root in WALLPAPERS:
        groups: dict[tuple[Path, int], Path] = {}
        for path in sorted(files.intersection(root.rglob("*"))):
            if path.suffix in {".jpg", ".png", ".webp"} and not SUBJECTS.intersection(
                (path.stem, *path.parts)
            ):
                real = path.resolve()
                if "screenshot" not in path.name and real.stat().st_size > 20_000:
                    groups.setdefault((real.parent, real.stat().st_size), real)
        yield from sorted(set(groups.values()))


def cutout(path: Path) -> Bytes | None:
    """RGBA bytes cropped to the object, at most 512 pixels long; None for line art and rectangles.

    Kept: alpha covers 20 to 95 % of a box of 80 pixels or more, and opening by 4 % leaves 60 %.
    """
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(path) as image:
        if image.width * image.height > LARGEST:
            return None
        art = np.asarray(image.convert("RGBA"))
    solid = art[..., 3] > 127
    if not solid.any():
        return None
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    art = art[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side, longest = min(art.shape[:2]), max(art.shape[:2])
    if side < 80 or side / longest < 0.2 or not 0.2 < (art[..., 3] > 127).mean() < 0.95:
        return None
    kernel = np.ones((max(3, side // 25),) * 2, np.uint8)
    opened = cv2.morphologyEx(art[..., 3], cv2.MORPH_OPEN, kernel)
    if (opened > 127).sum() < 0.6 * (art[..., 3] > 127).sum():
        return None
    if longest > 512:
        scale = 512 / longest
        art = cv2.resize(art, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(art, dtype=np.uint8)


def photo(path: Path) -> Bytes:
    """RGB bytes, the short side reduced to ``PHOTO_SIDE`` where it is longer."""
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(path) as image:
        image.draft("RGB", (PHOTO_SIDE * 2, PHOTO_SIDE * 2))
        rgb = image.convert("RGB")
    scale = PHOTO_SIDE / min(rgb.size)
    if scale < 1:
        rgb = rgb.resize(
            (round(rgb.width * scale), round(rgb.height * scale)), Image.Resampling.BOX
        )
    return np.asarray(rgb, dtype=np.uint8)
