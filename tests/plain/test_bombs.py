"""Files that cost far more than their pixels are told by their headers."""

from __future__ import annotations

import pytest

from birefnet_runtime.decode import decode
from birefnet_runtime.errors import DecodeError
from birefnet_runtime.formats.bombs import MOST_SCANS
from helpers.hostile import scans, tile_bomb, zeros
from helpers.pictures import disc, encoded

MOST = 1_000_000


def test_a_jpeg_has_few_scans() -> None:
    own = encoded(disc(), "JPEG", progressive=True).count(b"\xff\xda")
    assert own > 5
    assert decode(scans(MOST_SCANS - own), MOST).size == (48, 64)
    with pytest.raises(DecodeError, match=f"more than {MOST_SCANS} scans"):
        decode(scans(MOST_SCANS - own + 1), MOST)


@pytest.mark.parametrize("kind", [{}, {"progressive": True}])
def test_what_looks_like_scans_after_the_picture_or_in_its_tags_is_none(
    kind: dict[str, bool],
) -> None:
    # A telephone's film behind the picture; and tags of a maker.
    film = encoded(disc(), "JPEG", **kind) + b"\xff\xda" * 1000
    tags = encoded(disc(), "JPEG", **kind, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0" + b"\xff\xda" * 1000)
    for data in (film, tags):
        assert decode(data, MOST).size == (48, 64)


def test_a_tiff_has_tiles_of_its_own_size() -> None:
    assert decode(tile_bomb(16, zeros(1)), MOST).size == (16, 16)
    assert decode(tile_bomb(1024, zeros(1)), MOST).size == (16, 16)
    with pytest.raises(DecodeError, match="tiles of 4112x4112"):
        decode(tile_bomb(4112, zeros(17)), MOST)
