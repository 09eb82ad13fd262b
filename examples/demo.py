"""Cut out the pictures beside this file and lay everything on one contact sheet; ``make demo``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from birefnet_runtime import Cutout, Matting

HERE = Path(__file__).resolve().parent
ROW, GAP, TITLE = 300, 12, 26
PAPER, INK, COLOUR = (250, 250, 250), (60, 60, 60), (70, 130, 180)
TITLES = ("original", "alpha", "cut-out", "on a colour")


def main(out: Path) -> None:
    """Write ``STEM.cutout.png`` for each example and ``contact-sheet.png`` into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    pictures = sorted(HERE.glob("*.jpg"))
    rows = []
    with Matting.open("nano", device="cpu") as matting:
        print(f"model {matting.describe()}")
        for path in pictures:
            start = time.perf_counter()
            cutout = matting.remove(path)
            target = out / f"{path.stem}.cutout.png"
            cutout.save(target)
            print(f"{path.name} -> {target}  {time.perf_counter() - start:.2f} s")
            rows.append(panels(path, cutout))
    sheet = contact_sheet(rows)
    sheet.save(out / "contact-sheet.png")
    print(f"look at {out / 'contact-sheet.png'}")


def panels(path: Path, cutout: Cutout) -> list[Image.Image]:
    """The picture at ``path`` and three views of its result, all ROW pixels high."""
    cut = Image.fromarray(cutout.rgba)
    width = max(1, round(ROW * cut.width / cut.height))
    size = (width, ROW)
    alpha = Image.fromarray(cutout.alpha).convert("RGB").resize(size, Image.Resampling.LANCZOS)
    with Image.open(path) as picture:
        original = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    # Premultiplied while it is scaled: straight colours would bleed into the transparent pixels.
    small = cut.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    colour = Image.new("RGB", size, COLOUR)
    return [original, alpha, over(small, checkerboard(size)), over(small, colour)]


def over(picture: Image.Image, background: Image.Image) -> Image.Image:
    """A transparent picture on an opaque one of its size."""
    result = background.copy()
    result.paste(picture, mask=picture.getchannel("A"))
    return result


def checkerboard(size: tuple[int, int], cell: int = 12) -> Image.Image:
    """Light grey squares, the sign for transparency."""
    y, x = np.indices((size[1], size[0])) // cell
    grey = np.where((x + y) % 2, 255, 205).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def contact_sheet(rows: list[list[Image.Image]]) -> Image.Image:
    """One row a picture, columns titled."""
    column = max(panel.width for row in rows for panel in row)
    step = column + GAP
    size = (GAP + len(TITLES) * step, TITLE + len(rows) * (ROW + GAP) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, title in enumerate(TITLES):
        centre = GAP + index * step + column // 2
        draw.text((centre, TITLE // 2 + 4), title, INK, anchor="mm", font_size=15)
        for number, row in enumerate(rows):
            top = TITLE + number * (ROW + GAP) + GAP
            sheet.paste(row[index], (centre - row[index].width // 2, top))
    return sheet


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/demo"))
