"""The command ``birefnet remove``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from birefnet_runtime import animation, encode, flags
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.decode import PictureSource
from birefnet_runtime.errors import BirefnetError, InputError, OptionError, one_line
from birefnet_runtime.jobs import ONLY_MOVING, PIPE, Job, plan
from birefnet_runtime.matting import Matting
from birefnet_runtime.options import Options
from birefnet_runtime.progress import Progress


def run(args: argparse.Namespace) -> int:
    """Cut out every picture that ``args`` names; 0 when all are written, 1 when some failed."""
    options = flags.options(args)
    jobs = plan(args.inputs, args.out, options)
    if any(job.target == PIPE for job in jobs) and sys.stdout.isatty():
        raise OptionError("stdout is a terminal: redirect it, or name a file with -o")
    with Matting.open(**flags.model(args)) as matting:
        if args.device == "auto" or args.verbose:
            print(f"birefnet: {matting.describe()}", file=sys.stderr)
        if len(jobs) == 1 and _moves(jobs[0], options):
            return _remove_moving(matting, jobs[0], options)
        return _remove_all(matting, jobs, options, args.verbose)


def _moves(job: Job, options: Options) -> bool:
    """Whether the result is an animation: by its name, or for WebP by its source."""
    suffix = Path(job.target).suffix.lower()
    if suffix == ".webp" and job.source != PIPE:
        with suppress(BirefnetError):
            return animation.count(job.source, options.max_pixels) > 1
    return suffix in ONLY_MOVING


def _remove_moving(matting: Matting, job: Job, options: Options) -> int:
    """Cut out all frames of one animation; 0, or 1 when that failed."""
    try:
        source = sys.stdin.buffer.read() if job.source == PIPE else job.source
        data = animation.remove(matting, source, Path(job.target).suffix, options)
        encode.write(job.target, data)
    except InputError as error:
        print(f"birefnet: {job.label}: {error.reason}", file=sys.stderr)
        return 1
    return 0


def _remove_all(matting: Matting, jobs: list[Job], options: Options, verbose: bool) -> int:
    progress = Progress(len(jobs))
    failed: list[str] = []

    def save(number: int, cutout: Cutout) -> None:
        _write(jobs[number], cutout)

    sources = _Sources(jobs, options)
    results = matting.stream(sources, options, errors="yield", work=save)
    for job, result in zip(jobs, results, strict=True):
        if isinstance(result, BirefnetError):
            failed.append(job.label)
            reason = result.reason if isinstance(result, InputError) else one_line(result)
            progress.say(f"birefnet: {job.label}: {reason}")
        else:
            for remark in [*sources.remarks.pop(job, ()), *_remarks(result, verbose)]:
                progress.say(f"birefnet: {job.label}: {remark}")
        progress.step()
    progress.clear()
    if failed and len(jobs) > 1:
        print(
            f"birefnet: {len(failed)} of {len(jobs)} failed: {', '.join(failed)}", file=sys.stderr
        )
    return 1 if failed else 0


def _remarks(cutout: Cutout, verbose: bool) -> Iterator[str]:
    """What is said about a picture that went well."""
    if not cutout.score.found:
        yield "nothing found: the result is empty, or nearly so"
    if verbose:
        height, width = cutout.alpha.shape
        seconds = sum(cutout.timings.values())
        yield f"{height}x{width}, edge {cutout.edge}, {cutout.score}, {seconds:.2f} s"


class _Sources:
    """The pictures of jobs, one by one. ``remarks``: what was seen on the way, by job."""

    def __init__(self, jobs: list[Job], options: Options) -> None:
        self._jobs, self._options = jobs, options
        self.remarks: dict[Job, list[str]] = {}

    def __iter__(self) -> Iterator[PictureSource]:
        for job in self._jobs:
            source = sys.stdin.buffer.read() if job.source == PIPE else job.source
            # What is wrong with the file is found again, and reported, when it is decoded.
            with suppress(BirefnetError):
                count = animation.count(source, self._options.max_pixels)
                if count > 1:
                    text = f"only the first of its {count} frames is cut out"
                    remedy = "name a .webp, .gif or .apng with -o for all of them"
                    self.remarks[job] = [f"{text}: {remedy}"]
            yield source


def _write(job: Job, cutout: Cutout) -> None:
    """Encode one result and write it; OutputError when that fails."""
    if job.target == PIPE:
        sys.stdout.buffer.write(cutout.encode(".png"))
        sys.stdout.buffer.flush()
    else:
        encode.write(job.target, cutout.encode(Path(job.target).suffix))
