"""The command ``birefnet remove``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from birefnet_runtime import encode
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.decode import PictureSource
from birefnet_runtime.errors import BirefnetError, InputError, OptionError, one_line
from birefnet_runtime.jobs import PIPE, Job, plan
from birefnet_runtime.matting import Matting
from birefnet_runtime.options import Options
from birefnet_runtime.progress import Progress


def run(args: argparse.Namespace) -> int:
    """Cut out every picture that ``args`` names; 0 when all are written, 1 when some failed."""
    options = Options(
        output="alpha" if args.mask else "rgba",
        background=args.background,
        max_pixels=args.max_pixels,
    )
    jobs = plan(args.inputs, args.output, options)
    if any(job.target == PIPE for job in jobs) and sys.stdout.isatty():
        raise OptionError("stdout is a terminal: redirect it, or name a file with -o")
    with _open(args) as matting:
        if args.device == "auto":
            print(f"birefnet: {matting.describe()}", file=sys.stderr)
        return _remove_all(matting, jobs, options)


def _open(args: argparse.Namespace) -> Matting:
    return Matting.open(
        args.model,
        args.device,
        args.threads,
        mean=args.mean,
        std=args.std,
        size=args.size,
        activation=args.activation,
        output=args.output_name,
        precision=args.precision,
        batch=args.batch,
        provider=args.provider,
    )


def _remove_all(matting: Matting, jobs: list[Job], options: Options) -> int:
    progress = Progress(len(jobs))
    failed: list[str] = []

    def save(number: int, cutout: Cutout) -> None:
        _write(jobs[number], cutout)

    results = matting.stream(_sources(jobs), options, errors="yield", work=save)
    for job, result in zip(jobs, results, strict=True):
        if isinstance(result, BirefnetError):
            failed.append(job.label)
            reason = result.reason if isinstance(result, InputError) else one_line(result)
            progress.say(f"birefnet: {job.label}: {reason}")
        progress.step()
    progress.clear()
    if failed and len(jobs) > 1:
        print(
            f"birefnet: {len(failed)} of {len(jobs)} failed: {', '.join(failed)}", file=sys.stderr
        )
    return 1 if failed else 0


def _sources(jobs: list[Job]) -> Iterator[PictureSource]:
    for job in jobs:
        yield sys.stdin.buffer.read() if job.source == PIPE else job.source


def _write(job: Job, cutout: Cutout) -> None:
    """Encode one result and write it; OutputError when that fails."""
    if job.target == PIPE:
        sys.stdout.buffer.write(cutout.encode(".png"))
        sys.stdout.buffer.flush()
    else:
        encode.write(job.target, cutout.encode(Path(job.target).suffix))
