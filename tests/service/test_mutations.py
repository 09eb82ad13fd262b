"""Ten thousand damaged pictures: each is answered, and the service stays as it is."""

from __future__ import annotations

import http.client
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.hostile import gif, mutations
from helpers.live import PATIENCE, Live, serving
from helpers.pictures import disc, encoded, noise, png_16_bit

COUNT = 10_000
CONNECTIONS = 4
# Seconds for one answer: more than any of these takes, less than the service's own limit.
DEADLINE = 30.0
# What a change may turn a size into; decoding as much takes a few milliseconds.
MAX_PIXELS = 250_000
# MiB from a tenth of the pictures to the end. Leaking 1 % of the bodies (0.5 to 13 KiB) or one
# picture of MAX_PIXELS in 200 would be more.
GROWTH = 32


def _seeds() -> list[bytes]:
    """Small files of every format, and of the ways to write each."""
    rgb, alpha = disc(24, 32), np.dstack([disc(24, 32), noise(24, 32, 1)])
    grey, cmyk = Image.fromarray(rgb).convert("L"), Image.fromarray(rgb).convert("CMYK")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    files = [
        encoded(rgb, "JPEG", exif=exif),
        encoded(noise(48, 64), "JPEG", progressive=True),
        encoded(grey, "JPEG"),
        encoded(cmyk, "JPEG"),
        encoded(rgb, "PNG", dpi=(72, 72)),
        encoded(alpha, "PNG"),
        encoded(Image.fromarray(rgb).quantize(16), "PNG"),
        png_16_bit(rgb.astype(np.uint16) * 257),
        encoded(rgb, "WEBP"),
        encoded(alpha, "WEBP", lossless=True),
        encoded(rgb, "GIF"),
        gif(16, 16, 3, (16, 16)),
        encoded(rgb, "BMP"),
        encoded(rgb, "AVIF"),
    ]
    kinds = ("raw", "tiff_deflate", "tiff_lzw", "jpeg")
    return files + [encoded(rgb, "TIFF", compression=kind) for kind in kinds]


@pytest.mark.slow
def test_damaged_pictures_are_answered_and_nothing_stays(tiny: Path, tmp_path: Path) -> None:
    pictures = mutations(_seeds(), COUNT)
    with serving(tiny, tmp_path, max_pixels=MAX_PIXELS) as live:
        tenth = COUNT // 10
        found = _answers(live, pictures[:tenth])
        live.settle()
        resident, threads, files = live.resident, live.threads, live.files
        found += _answers(live, pictures[tenth:])
        live.settle()
        assert sum(found.values()) == COUNT
        # Cut out, not understood, too large, not a picture; nothing else.
        assert set(found) <= {200, 400, 413, 415}, found
        # All kinds of answers, or the changes would prove little.
        assert min(found[200], found[413] * 10, found[415]) > COUNT // 10, found
        assert live.resident < resident + GROWTH
        # A decoder's own threads may be about to end, and a connection about to be closed.
        end = time.monotonic() + PATIENCE
        while live.threads > threads or live.files > files:
            now = (live.threads, live.files)
            assert time.monotonic() < end, f"{now} threads and files, not {(threads, files)}"
            time.sleep(0.05)
        assert "Traceback" not in live.log.read_text()


def _answers(live: Live, pictures: Sequence[bytes]) -> Counter[int]:
    """How often each status came."""
    shares = [pictures[start::CONNECTIONS] for start in range(CONNECTIONS)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return sum(pool.map(lambda share: _ask(live.port, share), shares), Counter())


def _ask(port: int, pictures: Sequence[bytes]) -> Counter[int]:
    """Send ``pictures`` through one connection, which the service keeps whatever they are."""
    found: Counter[int] = Counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.connect()
        first = connection.sock
        for number, picture in enumerate(pictures):
            # Colours of the edge are estimated for some; the decoders are what this is about.
            query = "" if number % 20 == 0 else "?foreground=off"
            fields = {"Content-Type": "application/octet-stream"}
            connection.request("POST", "/v1/remove" + query, picture, fields)
            answer = connection.getresponse()
            answer.read()
            found[answer.status] += 1
        assert connection.sock is first
    finally:
        connection.close()
    return found
