"""Which picture is written where is settled, or refused, before anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from birefnet_runtime.errors import OptionError
from birefnet_runtime.jobs import Job, plan
from birefnet_runtime.options import OUTPUTS, Options

RGBA = Options()


def touch(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [str(folder / name) for name in names]


def targets(inputs: list[str], out: str | None = None, options: Options = RGBA) -> list[str]:
    return [job.target for job in plan(inputs, out, options)]


def test_beside_the_picture(tmp_path: Path) -> None:
    (a,) = touch(tmp_path, "a.b.jpg")
    assert plan([a], None, RGBA) == [Job(a, str(tmp_path / "a.b.cutout.png"))]
    assert targets([a], options=Options(output="alpha")) == [str(tmp_path / "a.b.mask.png")]


def test_one_picture_to_a_file_or_a_folder(tmp_path: Path) -> None:
    (a,) = touch(tmp_path, "a.jpg")
    assert targets([a], "out.webp") == ["out.webp"]
    assert targets([a], str(tmp_path)) == [str(tmp_path / "a.cutout.png")]
    assert targets([a], "new/") == ["new/a.cutout.png"]


def test_several_pictures_need_a_folder(tmp_path: Path) -> None:
    inputs = touch(tmp_path, "a.jpg", "b.png")
    assert targets(inputs, "new") == ["new/a.cutout.png", "new/b.cutout.png"]
    for out in ("out.png", inputs[0]):
        with pytest.raises(OptionError, match="is no folder"):
            targets(inputs, out)
    with pytest.raises(OptionError, match="stdout takes one picture"):
        targets(inputs, "-")


def test_a_folder_stands_for_its_pictures(tmp_path: Path) -> None:
    touch(tmp_path, "b.PNG", "a.jpeg", "a.cutout.png", "b.mask.png", "notes.txt", ".hidden.png")
    touch(tmp_path, "sub/c.png", "dir.png/x")
    wanted = [str(tmp_path / name) for name in ("a.jpeg", "b.PNG")]
    assert [job.source for job in plan([str(tmp_path)], None, RGBA)] == wanted
    # A folder means several pictures, even when it holds one.
    assert targets([str(tmp_path / "sub")], "out") == ["out/c.cutout.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match="folder without pictures"):
        targets([str(tmp_path / "empty")])


def test_naming_a_picture_twice_is_no_conflict(tmp_path: Path) -> None:
    (a,) = touch(tmp_path, "a.jpg")
    assert len(plan([a, str(tmp_path), a], None, RGBA)) == 1


def test_two_pictures_never_write_one_file(tmp_path: Path) -> None:
    inputs = touch(tmp_path, "a.jpg", "a.png", "sub/a.png")
    with pytest.raises(OptionError, match=r"a\.jpg and .*a\.png would both be written to"):
        targets(inputs[:2])
    assert len(targets([inputs[0], inputs[2]])) == 2
    with pytest.raises(OptionError, match="would both be written"):
        targets([inputs[0], inputs[2]], "out")


def test_a_picture_is_never_overwritten(tmp_path: Path) -> None:
    inputs = touch(tmp_path, "a.png", "a.cutout.png")
    with pytest.raises(OptionError, match="is a picture to be read"):
        targets(inputs[:1], inputs[0])
    with pytest.raises(OptionError, match="is a picture to be read"):
        targets(inputs)


def test_names_of_no_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A folder named out, such as the demo leaves in the tree, would be a legal target.
    monkeypatch.chdir(tmp_path)
    (a,) = touch(tmp_path, "a.png")
    for out in ("out.bmp", "out"):
        with pytest.raises(OptionError, match="no format for"):
            targets([a], out)
    with pytest.raises(OptionError, match=r"out\.jpg: JPEG has no transparency"):
        targets([a], "out.jpg")
    assert targets([a], "out.jpg", Options(background="white")) == ["out.jpg"]
    assert targets([a], "out.jpg", Options(output="alpha")) == ["out.jpg"]


def test_pipes() -> None:
    assert plan(["-"], None, RGBA) == [Job("-", "-")]
    assert plan(["-"], "-", RGBA)[0].label == "stdin"
    assert targets(["-"], "a.png") == ["a.png"]
    assert targets(["-", "x.png"], "out") == ["out/stdin.cutout.png", "out/x.cutout.png"]


def test_every_output_has_an_ending_of_its_own(tmp_path: Path) -> None:
    (a,) = touch(tmp_path, "a.jpg")
    found = [targets([a], options=Options(output=kind))[0] for kind in OUTPUTS]
    assert [Path(name).name for name in found] == [
        "a.cutout.png",
        "a.premultiplied.png",
        "a.mask.png",
        "a.foreground.png",
    ]
    touch(tmp_path, *(Path(name).name for name in found))
    assert [job.source for job in plan([str(tmp_path)], None, RGBA)] == [a]


def test_names_of_animations_and_of_16_bits(tmp_path: Path) -> None:
    (a,) = touch(tmp_path, "a.gif")
    for name in ("out.gif", "out.apng", "out.webp"):
        assert targets([a], name) == [name]
    with pytest.raises(OptionError, match=r"out\.webp: .*8 bits"):
        targets([a], "out.webp", Options(depth=16))
