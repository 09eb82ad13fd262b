"""Arguments -> which picture is written where, settled before anything is done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from birefnet_runtime.decode import SUFFIXES
from birefnet_runtime.encode import check_suffix
from birefnet_runtime.errors import OptionError, OutputError
from birefnet_runtime.options import Options

PIPE = "-"
# Added to a picture's stem. A folder's own results, named so, are not read again.
ENDINGS = {
    "rgba": ".cutout.png",
    "premultiplied": ".premultiplied.png",
    "alpha": ".mask.png",
    "foreground": ".foreground.png",
}


# Files that hold an animation, or one frame of it; WebP and PNG hold still pictures, too.
ONLY_MOVING = (".gif", ".apng")


@dataclass(frozen=True)
class Job:
    """One picture: ``source`` and ``target`` are paths, or ``-`` for stdin and stdout."""

    source: str
    target: str

    @property
    def label(self) -> str:
        """How messages name the picture."""
        return "stdin" if self.source == PIPE else self.source


def plan(inputs: list[str], out: str | None, options: Options) -> list[Job]:
    """One job per picture, in the order given; a folder stands for its pictures, sorted by name.

    ``out`` is a file for one picture, a folder for several, ``-`` for stdout, None for a file
    beside each picture. Raises OptionError when two pictures would write one file, a picture would
    be overwritten, or ``out`` does not suit the inputs.
    """
    sources = list(dict.fromkeys(source for given in inputs for source in _expand(given)))
    single = len(sources) == 1 and not Path(inputs[0]).is_dir()
    targets = [_target(source, out, single, options) for source in sources]
    jobs = [Job(*pair) for pair in zip(sources, targets, strict=True)]
    _check_targets(jobs, options)
    return jobs


def _expand(given: str) -> Iterator[str]:
    """The pictures that one argument stands for."""
    if given == PIPE or not Path(given).is_dir():
        yield given
        return
    names = sorted(entry.name for entry in Path(given).iterdir() if is_picture(entry))
    if not names:
        raise OptionError(f"{given} is a folder without pictures ({', '.join(sorted(SUFFIXES))})")
    yield from (os.path.normpath(str(Path(given) / name)) for name in names)


def is_picture(path: Path) -> bool:
    """Whether ``path`` is a file named like a picture, not hidden, and no result of ``remove``."""
    name = path.name.lower()
    own = name.endswith(tuple(ENDINGS.values())) or name.startswith(".")
    return not own and path.suffix.lower() in SUFFIXES and path.is_file()


def _target(source: str, out: str | None, single: bool, options: Options) -> str:
    stem = "stdin" if source == PIPE else Path(source).stem
    name = stem + ENDINGS[options.output]
    if out is None:
        return PIPE if source == PIPE else str(Path(source).with_name(name))
    if out == PIPE:
        if not single:
            raise OptionError("stdout takes one picture: give -o a folder for several")
        return PIPE
    is_folder = Path(out).is_dir() or out.endswith(("/", os.sep))
    if single and not is_folder:
        return out
    if not is_folder and (Path(out).exists() or Path(out).suffix):
        raise OptionError(f"{out} is no folder: several pictures need one (end its name with /)")
    return str(Path(out) / name)


def _check_targets(jobs: list[Job], options: Options) -> None:
    sources = {_identity(job.source): job.source for job in jobs if job.source != PIPE}
    writers: dict[str, str] = {}
    for job in jobs:
        if job.target == PIPE:
            continue
        identity = _identity(job.target)
        if identity in sources:
            raise OptionError(f"{job.target} is a picture to be read: choose another -o")
        if identity in writers:
            raise OptionError(
                f"{writers[identity]} and {job.label} would both be written to {job.target}: "
                "rename one, or run them with different -o"
            )
        _check_name(job.target, options)
        writers[identity] = job.label


def _check_name(target: str, options: Options) -> None:
    if Path(target).suffix.lower() in ONLY_MOVING:
        return
    try:
        check_suffix(Path(target).suffix, options.transparent, options.depth)
    except OutputError as error:
        raise OptionError(f"{target}: {error}") from None


def _identity(path: str) -> str:
    return str(Path(path).resolve())
