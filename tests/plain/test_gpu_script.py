"""``make gpu`` without a GPU: stages on a fake device, what fails, what is recorded, who builds."""

from __future__ import annotations

import ast
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from birefnet_engine.errors import MissingError
from birefnet_engine.manifest import Manifest, key
from birefnet_export.contract import Contract
from birefnet_runtime.frame import Floats
from birefnet_runtime.gpu import Device
from gpu_stages import builds, interpreter, kernels, latency, pytorch, runner, stream, targets
from gpu_stages import device as device_stage
from gpu_stages.options import NETWORKS, ROOT, STAGES, Options, parse
from gpu_stages.smi import Watch
from gpu_stages.stage import REST, Loaded, StageError, Tools
from gpu_stages.timing import percentile
from helpers import kernel_cases, reference
from helpers.api_names import uses
from helpers.engine_kit import GPU, FakeCompiler
from helpers.fake_device import FakeDevice, FakeEngine
from helpers.pictures import noise
from record import Record

SIZE = (24, 40)
CONTRACT = Contract(name="fake", height=SIZE[0], width=SIZE[1])
SCRIPT = ROOT / "bench" / "gpu.py"


def network(planes: Floats) -> Floats:
    """[3,h,w] to alpha [h,w]."""
    alpha: Floats = 1 / (1 + np.exp(-planes.mean(0)))
    return alpha


def write_manifest() -> Manifest:
    name = key("10.16", GPU.name, GPU.capability, "fp16", 1)
    values: dict[str, Any] = {"tensorrt": "10.16", "gpu": GPU.name, "capability": GPU.capability}
    values.update(key=name, precision="fp16", batch=1, onnx="model.trt.onnx", onnx_sha256="ab")
    values.update(contract_sha256="cd", plan_sha256="ef", plan_bytes=3_000_000)
    values.update(kernels={f"{name}.cubin": "12"}, kernels_source="34", options={"level": 5})
    values.update(seconds=61.5, versions={"compiler": "nvcc 13.0"})
    parity = {"mean": 0.0001, "p999": 0.002, "max": 0.01, "milliseconds": [8.0, 8.5]}
    layers = {"layers": 7, "fused_attention": 3, "grid_sample": {"fp32+fp32": 2}}
    return Manifest(**values, parity=parity, layers=layers)


def load(folder: Path, gpu: Device) -> Loaded:
    assert isinstance(gpu, FakeDevice)
    return Loaded(write_manifest(), CONTRACT, FakeEngine(gpu, network, SIZE), b"cubin")


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@pytest.fixture
def gpu() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def tools(gpu: FakeDevice) -> Tools:
    return Tools(
        probe=lambda: GPU,
        device=lambda: gpu,
        tensorrt=no_tensorrt,
        compiler=lambda found: FakeCompiler(),
        load=load,
        stage=python("print('built')"),
        build=python("print('a plan')"),
        watch=python("import time; time.sleep(9)"),
    )


def no_tensorrt() -> Any:
    raise MissingError("TensorRT is not installed: install it")


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """Two runs of everything, in folders of the test's own."""
    folder = tmp_path / "models" / NETWORKS[0]
    folder.mkdir(parents=True)
    CONTRACT.write(folder)
    image = np.stack([noise(*SIZE, seed=seed) for seed in range(2)])
    tensor = (image / np.float32(255) - CONTRACT.mean) / np.asarray(CONTRACT.std, np.float32)
    alpha = network(tensor.astype(np.float32).transpose(3, 0, 1, 2).reshape(3, -1, SIZE[1]))
    np.savez(folder / "reference.npz", image=image, alpha=alpha.reshape(2, 1, *SIZE))
    return Options(
        models=tmp_path / "models",
        work=tmp_path / "work",
        results=tmp_path / "results",
        networks=NETWORKS[:1],
        warm=1,
        samples=2,
        pictures=5,
        small=True,
        wait=60.0,
    )


def run(stage: str, options: Options, tools: Tools) -> tuple[int, dict[str, Any]]:
    """The exit status of one stage and its record."""
    status = runner.run(options.alone(stage), tools)
    (path,) = options.results.glob("*.json")
    return status, json.loads(path.read_text())


def measures(record: dict[str, Any]) -> dict[str, list[float]]:
    return {item["name"]: item["samples"] for item in record["measures"]}


# --- the command line


def test_help_needs_the_standard_library_only() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-E", str(SCRIPT), "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert all(stage in done.stdout for stage in STAGES)


def test_the_scripts_keep_to_the_syntax_of_python_310() -> None:
    for path in [SCRIPT, SCRIPT.with_name("record.py"), *SCRIPT.parent.glob("gpu_stages/*.py")]:
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


def test_options_survive_the_way_to_another_process(tmp_path: Path) -> None:
    given = Options(
        stages=("swin_v1_l",),
        networks=("swin_v1_l",),
        models=tmp_path,
        torch_python="/usr/bin/python3",
        samples=7,
        wait=1.5,
        small=True,
        detach=True,
    )
    assert parse([*given.stages, *given.arguments()]) == given
    assert parse(["device", *given.alone("device").arguments()[:1]]).stages == ("device",)


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["device", "--detach"], ["--detach"], ["--samples=0"], ["--networks=resnet"]],
)
def test_arguments_without_meaning(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2


def test_without_a_gpu_one_line_says_what_is_missing(
    options: Options, tools: Tools, capsys: pytest.CaptureFixture[str]
) -> None:
    def probe() -> Any:
        raise MissingError("no NVIDIA driver here: install it")

    assert runner.run(options, replace(tools, probe=probe)) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "gpu: no NVIDIA driver here: install it\n")
    assert not options.results.exists()


# --- stages


def test_every_kernel_is_compared_with_its_twin(
    options: Options, tools: Tools, gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The smallest inputs stand for pictures of 12 megapixels, so that some are timed.
    monkeypatch.setattr(kernels, "LARGE", 800_000)
    status, record = run("kernels", options, tools)
    assert status == 0, record["missing"]
    found, count = measures(record), sum(1 for _ in kernel_cases.cases(large=False))
    assert count > 100
    for kind in ("cubin", "ptx"):
        assert found[f"{kind}: cases"] == [count]
        assert found[f"{kind}: cases that differ"] == [0]
    timed = [name for name in found if name.startswith("resize_rows (resize 997x1003x3")]
    assert len(timed) == 1
    assert len(found[timed[0]]) == options.samples
    assert record["findings"]["compiler"] == "nvcc 13.0"
    assert record["missing"] == {}
    assert gpu.live == []


def test_a_kernel_that_is_wrong_in_one_place_is_found(
    options: Options, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [case for case in kernel_cases.cases(large=False) if case.name.startswith("activate")]
    monkeypatch.setattr(kernels, "cases", lambda large: iter(few))
    right = reference.execute

    def wrong(launch: Any) -> None:
        right(launch)
        if launch.name == "activate" and int(launch.args[1]) == 257:
            reference.memory(int(launch.args[3]), (257,), np.float32)[256] += 1

    monkeypatch.setattr(reference, "execute", wrong)
    status, record = run("kernels", options, tools)
    assert status == 1
    assert measures(record)["cubin: cases that differ"] == [2]
    assert "alpha: 1 of 257 differ" in record["findings"]["cubin: differences"][0]
    assert "activate none 257" in record["missing"][REST]


def test_parts_that_fail_leave_the_others(
    options: Options, tools: Tools, gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_stage, "COPIED", 1 << 16)
    absent = replace(options, torch_python=str(options.work / "python"))
    status, record = run("device", absent, tools)
    assert status == 1
    # The fake's events are a millisecond apart.
    assert measures(record)["device to device"][0] == pytest.approx(2 * (1 << 16) / 1e-3 / 1e9)
    assert record["findings"]["gpu"]["name"] == GPU.name
    missing = record["missing"]
    assert "TensorRT is not installed" in missing["tensorrt, a network of one layer"]
    assert "--torch-python" in missing["matrix product"]
    # What nobody needs is no reason to fail.
    assert "matrix" not in missing[REST]
    assert gpu.live == []


def test_the_network_of_one_layer_uses_names_of_every_tensorrt() -> None:
    source = Path(device_stage.__file__).read_text(encoding="utf-8")
    classes = {"network": "INetworkDefinition", "builder": "Builder", "layer": "ILayer"}
    found = uses(source, {**classes, "answer": "ITensor"})
    assert {"ReduceOperation.AVG", "INetworkDefinition.add_reduce"} <= {use.name for use in found}
    assert [use for use in found if use.missing] == []


def test_a_network_is_measured(
    options: Options,
    tools: Tools,
    gpu: FakeDevice,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(latency, "PICTURE", (120, 160))
    status, record = run("swin_v1_t", options, tools)
    assert status == 0, record["missing"]
    found, said = measures(record), capsys.readouterr().out
    for name in ("engine, eager", "engine, captured graph", "12 MP, pinned to pinned"):
        assert len(found[f"{name}, GPU"]) == len(found[f"{name}, wall"]) == options.samples
    for which in ("first", "second"):
        assert found[f"memory of the {which} execution context"] == [4096 / 2**20]
    assert found["alpha against PyTorch fp32, mean"] == [0.0001]
    assert found["engine at the proof, GPU"] == [8.0, 8.5]
    assert record["hashes"]["model.trt.onnx"] == "ab"
    assert record["findings"]["engine: the graph gives the eager bits"] is True
    verdicts = {item["target"]: item for item in record["findings"]["targets"]}
    engine = verdicts["swin_v1_t: engine with the captured graph, wall"]
    median = float(np.median(found["engine, captured graph, wall"]))
    assert engine["value"] == pytest.approx(median * 1e3)
    assert engine["remark"] == "set for swin_v1_l"
    assert "| built" in said
    assert "attention: 3 fused" in said
    assert "clocks and power" in " ".join(record["missing"])
    assert gpu.live == []


def test_a_graph_that_computes_something_else_is_no_measurement(
    options: Options, tools: Tools, gpu: FakeDevice
) -> None:
    def other(folder: Path, device: Device) -> Loaded:
        loaded = load(folder, device)
        assert isinstance(loaded.engine, FakeEngine)
        calls: list[int] = []

        def drift(planes: Floats) -> Floats:
            calls.append(1)
            answer: Floats = network(planes) + np.float32(len(calls))
            return answer

        loaded.engine.function = drift
        return loaded

    status, record = run("swin_v1_t", options, replace(tools, load=other))
    assert status == 1
    assert "other bits" in record["missing"]["latency"]
    assert gpu.live == []


def test_a_build_that_fails_is_reported_by_its_last_line(options: Options, tools: Tools) -> None:
    failing = python("print('parsing'); raise SystemExit('birefnet-build: no memory')")
    status, record = run("swin_v1_t", options, replace(tools, stage=failing))
    assert status == 1
    assert "birefnet-build: no memory" in record["missing"]["export and build"]
    assert record["measures"] == []


@pytest.fixture
def child(options: Options, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Play PyTorch's process: the code gets the folder ``out`` and ``write`` for a line."""

    def play(code: str) -> None:
        path = options.work / "child.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            "import json, sys, pathlib, numpy as np\n"
            "out = pathlib.Path(next(a for a in sys.argv if a.startswith('--out='))[6:])\n"
            "def write(**line):\n"
            "    with (out / 'results.jsonl').open('a') as file:\n"
            "        file.write(json.dumps(line) + '\\n')\n" + code
        )
        monkeypatch.setattr(pytorch, "_CHILD", path)

    return play


CHILD = """
write(libraries={'torch': '2.99'})
figures = dict(gpu=[1.0], first=9.0, peak_bytes=0, uses={'attention': 'sdpa'})
write(name='PyTorch eager FP32', wall=[3.0], **figures)
write(name='PyTorch eager FP16', wall=[2.0], **figures)
write(name='torch.compile max-autotune FP16', missing='Unsupported: no')
folder = pathlib.Path(next(a for a in sys.argv if a.startswith('--folder='))[9:])
alpha = np.load(folder / 'reference.npz')['alpha']
np.savez(out / 'alphas.npz', fp32=alpha, fp16=alpha + 0.1, fp16_sampled=alpha + 0.01)
"""


def test_pytorch_beside_it(
    options: Options, tools: Tools, gpu: FakeDevice, child: Callable[[str], None]
) -> None:
    child(CHILD)
    here = replace(options, torch_python=sys.executable)
    status, record = run("pytorch", here, tools)
    assert status == 0, record["missing"]
    name = NETWORKS[0]
    found, missing = measures(record), record["missing"]
    assert missing[f"{name}: torch.compile max-autotune FP16"] == "Unsupported: no"
    assert "no model.onnx" in missing[f"{name}: ONNX Runtime CUDA"]
    assert record["versions"]["torch"] == "2.99"
    verdicts = {item["target"]: item["value"] for item in record["findings"]["targets"]}
    engine = float(np.median(found[f"{name}: TensorRT, captured graph, wall"]))
    assert verdicts[f"{name}: faster than PyTorch eager FP16"] == pytest.approx(2.0 / engine)
    assert not any("max-autotune" in text for text in verdicts)
    gap = found[f"{name}: PyTorch FP16, float32 sampling from PyTorch FP32 on this GPU, mean"]
    assert gap == pytest.approx([0.01], rel=1e-3)
    # The fake computes in float32: rounding only.
    ours = found[f"{name}: TensorRT from PyTorch FP32 on this GPU, mean"][0]
    assert ours < 1e-5
    assert verdicts[f"{name}: distance from fp32 over PyTorch half's"] < 1.25
    assert gpu.live == []


def test_pytorch_that_measures_nothing_fails_and_tensorrt_is_measured(
    options: Options, tools: Tools, child: Callable[[str], None]
) -> None:
    child("sys.exit('torch: no CUDA')")
    status, record = run("pytorch", replace(options, torch_python=sys.executable), tools)
    assert status == 1
    assert "measured nothing" in record["missing"][f"{NETWORKS[0]}: PyTorch"]
    assert f"{NETWORKS[0]}: TensorRT, captured graph, GPU" in measures(record)


def test_a_stream_of_mixed_sizes(
    options: Options, tools: Tools, gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "LARGEST", 0.02)
    monkeypatch.setattr(stream, "SMALLEST", 0.001)
    status, record = run("stream", options, tools)
    assert status == 0, record["missing"]
    found, name = measures(record), NETWORKS[0]
    for label in ("stream", "stream with PNG files", "remove() one by one"):
        assert len(found[f"{name}: {label}, per picture, wall"]) == options.pictures
        assert found[f"{name}: {label}, rate"][0] > 0
    rate, busy = found[f"{name}: stream, rate"][0], found[f"{name}: stream, engines over wall time"]
    # The fake's engine takes a millisecond.
    assert busy == [pytest.approx(100 * 0.001 * rate)]
    verdicts = {item["target"]: item for item in record["findings"]["targets"]}
    assert verdicts[f"{name}: growth of device memory over stream()"]["met"] is True
    assert gpu.live == []


def test_pictures_are_as_large_as_they_say() -> None:
    data = stream.pictures(6, 0.5)
    megapixels = []
    for item in data:
        with Image.open(io.BytesIO(item)) as image:
            megapixels.append(image.width * image.height / 1e6)
    assert megapixels[0] == pytest.approx(0.5, rel=0.01)
    assert sorted(megapixels)[0] == pytest.approx(0.3, rel=0.01)
    assert data == stream.pictures(6, 0.5)


@pytest.mark.parametrize("stage", ["stream", "pytorch"])
def test_stages_that_need_a_network_say_how_to_get_it(
    stage: str, options: Options, tools: Tools
) -> None:
    status, record = run(stage, replace(options, networks=("swin_v1_l",)), tools)
    assert status == 1
    assert "bench/gpu.py swin_v1_l" in record["missing"]["swin_v1_l"]


# --- isolation


def test_a_stage_that_crashes_takes_no_other_along(
    options: Options, tools: Tools, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import os, sys, pathlib\n"
        f"pathlib.Path({str(tmp_path)!r}, sys.argv[1]).touch()\n"
        "if sys.argv[1] == 'device': os.kill(os.getpid(), 11)\n"
        "sys.exit(sys.argv[1] == 'stream')\n"
    )
    three = replace(options, stages=("device", "kernels", "stream"))
    assert runner.run(three, replace(tools, stage=python(code))) == 1
    assert {path.name for path in tmp_path.iterdir()} >= {"device", "kernels", "stream"}
    said = capfd.readouterr().err
    assert "2 of 3 stages failed: device (SIGSEGV), stream (status 1)" in said


def test_an_error_that_nobody_foresaw_leaves_a_record(
    options: Options, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bad(stage: Any) -> None:
        stage.record.add("a", "s", "lower", [1.0])
        raise ZeroDivisionError("of\nzero")

    monkeypatch.setitem(runner.STAGES, "device", bad)
    status, record = run("device", options, tools)
    assert status == 1
    assert record["missing"][REST] == "the stage failed: ZeroDivisionError: of zero"
    assert measures(record) == {"a": [1.0]}


def test_an_interrupted_stage_leaves_a_record(
    options: Options, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    def long(stage: Any) -> None:
        stage.record.add("a", "s", "lower", [1.0])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)

    monkeypatch.setitem(runner.STAGES, "device", long)
    before = signal.getsignal(signal.SIGTERM)
    status, record = run("device", options, tools)
    assert status == runner.INTERRUPTED
    assert record["missing"][REST] == "it was interrupted"
    assert measures(record) == {"a": [1.0]}
    assert signal.getsignal(signal.SIGTERM) == before


def test_make_knows_the_target() -> None:
    # Under `make test`, make would tell which folder it is in as well.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "-n", "gpu", "GPU_PYTHON=/opt/kit/python3", "ARGS=device"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )
    assert done.stdout.splitlines()[-1] == "/opt/kit/python3 bench/gpu.py device"


# --- builds


def waiting(folder: Path) -> tuple[str, ...]:
    """A build that lasts until the file ``go`` is there."""
    return python(
        "import pathlib, time\n"
        "print('building', flush=True)\n"
        f"while not pathlib.Path({str(folder / 'go')!r}).exists(): time.sleep(0.02)\n"
        "print('done', flush=True)\n"
    )


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_detached_build_is_found_and_waited_for(
    options: Options, tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = replace(tools, stage=waiting(tmp_path))
    apart = replace(options.alone("swin_v1_t"), detach=True)
    assert runner.run(apart, slow) == 0
    build = builds.Build(apart, slow, "swin_v1_t")
    number = build.running()
    assert number is not None
    # A session of its own: it outlives the terminal.
    assert os.getsid(int(number)) == int(number)
    assert f"process {number}" in capsys.readouterr().out

    until(lambda: build.last_line() == "building")
    assert runner.run(apart, slow) == 0
    assert capsys.readouterr().out == f"swin_v1_t is being built by process {number}: building\n"

    # It is waited for no longer than asked; nothing else is lost by that.
    status, record = run("swin_v1_t", replace(options, wait=0.0), slow)
    assert status == 1
    assert f"still being built by process {number}" in record["missing"]["export and build"]
    (tmp_path / "go").touch()
    until(lambda: build.running() is None)
    said: list[str] = []
    build.follow(1.0, said.append)
    assert said == ["  | building", "  | done"]


def test_the_first_export_is_done_before_the_build(
    options: Options, tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    export = tmp_path / "export.py"
    export.write_text(
        "import pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[2]); folder.mkdir(parents=True)\n"
        "(folder / 'exported').write_text(' '.join(sys.argv[3:]))\n"
    )
    monkeypatch.setattr(builds, "_EXPORT", export)
    code = (
        "import pathlib, sys\n"
        f"pathlib.Path({str(seen)!r}).write_text(' '.join(sys.argv[1:]))\n"
        "sys.exit(0 if (pathlib.Path(sys.argv[1]) / 'exported').exists() else 3)\n"
    )
    own = replace(options, models=None, export_python=sys.executable, level=2, size=512)
    builds.prepare(own, replace(tools, build=python(code)), "swin_v1_l", lambda text: None)
    folder = own.work / "models" / "swin_v1_l"
    assert seen.read_text() == f"{folder} --level=2 --precision=fp16"
    assert "--size=512" in (folder / "exported").read_text()

    with pytest.raises(StageError, match="ended with 3"):
        builds.prepare(options, replace(tools, build=python(code)), "swin_v1_t", lambda text: None)
    with pytest.raises(StageError, match=r"swin_v1_l holds no contract\.json"):
        builds.prepare(options, tools, "swin_v1_l", lambda text: None)


def test_an_interrupted_child_gets_time_to_keep_what_it_has(tmp_path: Path) -> None:
    child = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "try:\n    (folder / 'up').touch(); time.sleep(30)\n"
        "except KeyboardInterrupt:\n    time.sleep(0.5); (folder / 'kept').touch()\n"
    )
    parent = (
        "import signal, sys; from gpu_stages import interpreter\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        f"interpreter.run([sys.executable, '-c', {child!r}])\n"
    )
    process = subprocess.Popen(
        python(parent), env=interpreter.environment(sys.executable), stderr=subprocess.DEVNULL
    )
    until((tmp_path / "up").exists)
    process.terminate()
    process.wait(30)
    assert (tmp_path / "kept").exists()


def test_another_python_gets_nothing_of_a_packed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/opt/kit/py")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/kit/py/lib:/usr/local/cuda/lib64")
    monkeypatch.setenv("PYTHONPATH", "/opt/kit/site")
    other = interpreter.environment("/usr/bin/python3")
    assert "PYTHONHOME" not in other
    assert other["LD_LIBRARY_PATH"] == "/usr/local/cuda/lib64"
    assert "kit" not in other["PYTHONPATH"]
    assert str(ROOT / "export") in other["PYTHONPATH"].split(os.pathsep)
    same = interpreter.environment(sys.executable)
    assert same["PYTHONHOME"] == "/opt/kit/py"
    assert same["PYTHONPATH"].endswith("/opt/kit/site")


# --- figures


def test_targets_are_judged_by_the_figure() -> None:
    def line(name: str, value: float, gpu: str = "NVIDIA H200") -> str:
        return targets.judge(name, "swin_v1_l", value, gpu).line()

    assert line("engine", 10.0).endswith("10.00 ms, target at most 10 ms: met")
    assert "NOT MET" in line("engine", 10.01)
    assert line("eager", 3.0).endswith(": met")
    assert "NOT MET" in line("eager", 2.99)
    assert line("busy", 89.9, "NVIDIA H100").endswith("NOT MET (set on an H200)")
    for name in targets.TARGETS:
        assert "NOT MET" in line(name, float("nan"))
        assert targets.judge(name, "swin_v1_t", 1.0, "x").remark == (
            "" if targets.TARGETS[name].anywhere else "set for swin_v1_l on an H200"
        )


def test_percentiles_are_samples() -> None:
    samples = [float(number) for number in range(300, 0, -1)]
    assert percentile(samples, 0.95) == 285
    assert percentile(samples, 0.99) == 297
    assert percentile([4.0], 0.99) == 4


def test_a_watch_keeps_what_nvidia_smi_tells() -> None:
    lines = "97, 1980, 650.5, 41\\n98, [N/A], 651, 42\\n99, 19"
    with Watch(python(f"import time; print({lines!r}.replace(chr(92)+'n', chr(10)))")) as watch:
        assert watch._process is not None
        watch._process.wait(30)
    assert watch.samples["GPU utilisation"] == [97, 98]
    assert watch.samples["SM clock"] == [1980]
    assert watch.samples["power"] == [650.5, 651]
    assert watch.reason == ""
    with Watch(("/no/such/nvidia-smi",)) as none:
        pass
    assert "does not start" in none.reason


def test_a_record_is_replaced_as_more_is_known(tmp_path: Path) -> None:
    made = Record("gpu device", {})
    made.missing["rest"] = "not yet"
    first = made.write(tmp_path)
    del made.missing["rest"]
    made.libraries["torch"] = "2.99"
    made.findings["gpu"] = "none"
    assert made.write(tmp_path) == first
    (path,) = tmp_path.iterdir()
    data = json.loads(path.read_text())
    assert (data["missing"], data["findings"]) == ({}, {"gpu": "none"})
    assert data["versions"]["torch"] == "2.99"
