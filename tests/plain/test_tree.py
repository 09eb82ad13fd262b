"""A folder and its results: which pictures, which names, which shard."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from birefnet_runtime.bulk.tree import Shard, Tree, read_list, tasks
from birefnet_runtime.errors import OptionError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def tree(root: Path, out: Path, full_names: bool = False, shard: Shard | None = None) -> Tree:
    return Tree.open(str(root), str(out), ".png", full_names, shard)


def test_the_tree_is_mirrored(tmp_path: Path) -> None:
    touch(tmp_path, "in/b.jpg", "in/a.b.PNG", "in/sub/deep/c.webp", "in/notes.txt")
    touch(tmp_path, "in/.hidden/d.jpg", "in/.e.jpg", "in/f.cutout.png")
    one = tree(tmp_path / "in", tmp_path / "out")
    found = tasks(one, one.walk())
    assert [(task.name, task.target) for task in found] == [
        ("a.b.PNG", "a.b.png"),
        ("b.jpg", "b.png"),
        ("sub/deep/c.webp", "sub/deep/c.png"),
    ]
    assert found[2].source == str(tmp_path / "in/sub/deep/c.webp")


def test_results_inside_the_folder_are_not_read_again(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "out/a.png", "out/sub/b.png", "other/out/c.png")
    assert list(tree(tmp_path, tmp_path / "out").walk()) == ["a.jpg", "other/out/c.png"]


@pytest.mark.parametrize("out", ["in", ".", "in/../in"])
def test_pictures_never_lie_among_results(tmp_path: Path, out: str) -> None:
    touch(tmp_path, "in/a.png")
    with pytest.raises(OptionError, match="choose another OUT"):
        tree(tmp_path / "in", tmp_path / out)


def test_folders_that_are_none(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "in/b.png")
    with pytest.raises(OptionError, match="birefnet remove"):
        tree(tmp_path / "a.png", tmp_path / "out")
    with pytest.raises(OptionError, match="no such folder"):
        tree(tmp_path / "missing", tmp_path / "out")
    with pytest.raises(OptionError, match="name one for the results"):
        tree(tmp_path / "in", tmp_path / "a.png")


def test_two_pictures_never_write_one_file(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg", "in/a.png", "in/sub/a.png")
    one = tree(tmp_path / "in", tmp_path / "out")
    with pytest.raises(OptionError, match=r"a\.jpg and a\.png .* a\.png: add --full-names"):
        tasks(one, one.walk())
    one = tree(tmp_path / "in", tmp_path / "out", full_names=True)
    targets = [task.target for task in tasks(one, one.walk())]
    assert targets == ["a.jpg.png", "a.png.png", "sub/a.png.png"]


def test_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "in/a.jpg", "in/sub/b.jpg")
    one = tree(tmp_path / "in", tmp_path / "out")
    text = f"sub/b.jpg\r\n\n{tmp_path}/in/a.jpg\n./sub/../a.jpg\nno suffix\n"
    (tmp_path / "list").write_text(text, encoding="utf-8")
    names = list(one.listed(read_list(str(tmp_path / "list"))))
    assert names == ["sub/b.jpg", "a.jpg", "no suffix"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\xff.jpg\n")))
    assert list(one.listed(read_list("-"))) == ["a\udcff.jpg"]
    for line in ("../x.jpg", "/elsewhere/x.jpg", "."):
        with pytest.raises(OptionError, match="is not below"):
            list(one.listed([line]))
    with pytest.raises(OptionError, match="cannot be read: No such file"):
        read_list(str(tmp_path / "missing"))


def test_shards_are_a_partition(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(40)]
    touch(tmp_path, *(f"in/{name}" for name in names))
    parts = [
        list(tree(tmp_path / "in", tmp_path / "out", shard=Shard(index, 3)).walk())
        for index in (1, 2, 3)
    ]
    assert all(parts)
    assert sorted(name for part in parts for name in part) == sorted(names)
    one = tree(tmp_path / "in", tmp_path / "out", shard=Shard(2, 3))
    assert list(one.listed(names)) == [name for name in names if name in parts[1]]


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/2/3", "a/b", ""])
def test_shards_that_are_none(text: str) -> None:
    assert Shard.parse("2/4") == Shard(2, 4)
    with pytest.raises(OptionError, match="give I/N"):
        Shard.parse(text)
