"""Stages one by one: each with a record of its own, none taking another along."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from birefnet_engine.driver import Gpu
from birefnet_export.contract import BirefnetError
from gpu_stages import builds, device, interpreter, kernels, network, pytorch, stream
from gpu_stages.options import NETWORKS, Options
from gpu_stages.stage import REST, Run, Tools, describe
from record import Record, read_gpu

INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)
STAGES: dict[str, Callable[[Run], None]] = {
    "device": device.run,
    "kernels": kernels.run,
    **dict.fromkeys(NETWORKS, network.run),
    "pytorch": pytorch.run,
    "stream": stream.run,
}
say = partial(print, flush=True)


def run(options: Options, tools: Tools | None = None) -> int:
    """Do what was asked for: the exit status. Without a GPU one line on stderr says what to do."""
    tools = tools or Tools()
    # A lease that ends tells us so: what was measured until then is kept.
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        gpu = tools.probe()
        if options.prepare:
            builds.prepare(options, tools, options.stages[0], say)
        elif options.detach:
            builds.detach(options, tools, options.stages[0], say)
        elif len(options.stages) == 1:
            return 1 if run_stage(options.stages[0], options, tools, gpu) else 0
        else:
            return run_apart(options, tools)
    except BirefnetError as error:
        print(f"gpu: {describe(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("gpu: stopped; the records hold what was measured", file=sys.stderr)
        return INTERRUPTED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def run_stage(name: str, options: Options, tools: Tools, gpu: Gpu) -> list[str]:
    """Run one stage here and write its record; what failed in it."""
    record = Record(f"gpu {name}", configuration(options))
    record.findings["gpu before"] = read_gpu()
    # Until the end: a process that crashes leaves the record that was written last.
    record.missing[REST] = "the process ended before it got there"
    stage = Run(name, options, tools, gpu, record, say)
    say(f"== {name}")
    try:
        STAGES[name](stage)
    except Exception as error:
        stage.failures.append(describe(error))
    except BaseException:
        # Once is enough: a second signal would spoil the record.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        record.missing[REST] = "it was interrupted"
        say(f"record: {stage.checkpoint()}")
        raise
    if stage.failures:
        record.missing[REST] = f"the stage failed: {'; '.join(stage.failures)}"
    else:
        del record.missing[REST]
    say(f"record: {stage.checkpoint()}")
    for failure in stage.failures:
        print(f"gpu: {name} failed: {failure}", file=sys.stderr)
    return stage.failures


def configuration(options: Options) -> dict[str, Any]:
    """The options as the record keeps them: paths by their last part, which says enough."""
    values = asdict(options)
    for name in ("models", "work", "results"):
        values[name] = values[name] and values[name].name
    for name in ("export_python", "torch_python"):
        values[name] = bool(values[name])
    return values


def run_apart(options: Options, tools: Tools) -> int:
    """Each stage in a process of its own; 1 where one failed, with the list."""
    failed = {}
    for name in options.stages:
        command = [*tools.stage, name, *options.arguments()]
        # Ctrl-C reaches the stage as well: a second signal would disturb it.
        status = interpreter.run(command, patience=3.0)
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        if status:
            failed[name] = _ended(status)
    if failed:
        text = ", ".join(f"{name} ({reason})" for name, reason in failed.items())
        print(f"gpu: {len(failed)} of {len(options.stages)} stages failed: {text}", file=sys.stderr)
        return 1
    say(f"{len(options.stages)} stages, all measured")
    return 0


def _ended(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"status {status}"
    known = {item.value: item.name for item in signal.Signals}
    return known.get(-status, f"signal {-status}")
