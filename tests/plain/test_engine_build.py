"""A build from end to end, on a fake TensorRT of each version."""

from __future__ import annotations

import os
import signal
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from birefnet_engine import manifest as manifests
from birefnet_engine import store
from birefnet_engine.build import Request, inspect
from birefnet_engine.errors import (
    BuildError,
    BusyError,
    ContractError,
    EngineError,
    ManifestError,
    MissingError,
    ParseError,
    ProofError,
)
from birefnet_engine.kernels import Sources
from birefnet_export import contract as contracts
from helpers.engine_kit import PASSED, Kit, write_folder
from helpers.fake_tensorrt import VERSIONS, make
from helpers.tiny_onnx import write_mask_model

KEYS = {
    "8.6.0": "trt8.6.0-nvidia-h200-sm90-fp16-b1",
    "10.16": "trt10.16.1.11-nvidia-h200-sm90-fp16-b1",
    "11.4": "trt11.4.0.106-nvidia-h200-sm90-fp16-b1",
}
KEY = KEYS["10.16"]


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(write_folder(tmp_path / "m"))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plan_is_built_proved_and_published(tmp_path: Path, version: str) -> None:
    kit = Kit(write_folder(tmp_path / "m"), version)
    (result,) = kit.build()
    found, key = result.manifest, KEYS[version]
    assert (found.key, result.made) == (key, "built")
    assert manifests.find(kit.folder) == [found]
    assert manifests.verify(found, kit.folder).read_bytes() == b"a plan"
    assert manifests.verify(found, kit.folder, found.cubin).read_bytes() == b"kernels for sm_90"
    assert manifests.verify(found, kit.folder, found.ptx).read_bytes() == b"kernels for compute_75"
    assert found.onnx_data == {
        "model.trt.onnx.data": contracts.sha256(kit.folder / "model.trt.onnx.data")
    }
    assert (found.parity["p999"], found.options["level"]) == (0.004, 5)
    assert found.layers["fused_attention"] == 1
    assert found.layers["grid_sample"] == {"fp32+fp32": 1}
    assert found.layers["context_bytes"] == 300_000_000
    assert found.layers["weights_bytes"] == (None if version == "8.6.0" else 200_000_000)
    cache = f"timing-{found.tensorrt}-nvidia-h200.cache"
    files = [cache, *(f"{key}.{suffix}" for suffix in ("cubin", "json", "plan", "ptx"))]
    assert kit.names() == sorted(files)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_what_the_builder_is_told(tmp_path: Path, version: str, precision: str) -> None:
    kit = Kit(write_folder(tmp_path / "m", precision=precision), version)
    kit.build(level=3)
    seen = kit.script.seen
    weak = version == "8.6.0" and precision == "fp16"
    # Strongly typed versions refuse these flags, and FP32 needs neither.
    flags = {"FP16", "OBEY_PRECISION_CONSTRAINTS"} if weak else set()
    assert seen["config"] == {
        "level": 3,
        "verbosity": "DETAILED",
        "flags": flags,
        "sources": {"EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"},
    }
    # Arithmetic of the island and the parser's helper in it; no Cast, no integers, no body.
    island = ["dec/fp32/grid", "(Unnamed Layer* 3) [Shuffle]", "dec/fp32/sample"]
    assert seen["pinned"] == (island if weak else [])


def test_everything_is_private(kit: Kit) -> None:
    before = os.umask(0)
    try:
        kit.build()
    finally:
        os.umask(before)
    assert stat.S_IMODE(kit.engines.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in kit.engines.iterdir()} == {0o600}


def test_the_proof_sees_what_is_published(kit: Kit) -> None:
    kit.build()
    assert kit.calls == [
        {
            "folder": str(kit.folder),
            "plan": "a plan",
            "--onnx": "model.trt.onnx",
            "--batch": "1",
            "--precision": "fp16",
            "--kernels": kit.calls[0]["--kernels"],
            "kernels": "kernels for sm_90",
        }
    ]


def test_a_plan_for_each_batch(tmp_path: Path) -> None:
    kit = Kit(write_folder(tmp_path / "m", (1, 4)))
    results = kit.build(1, 4)
    assert [result.manifest.batch for result in results] == [1, 4]
    assert [result.manifest.onnx for result in results] == ["model.trt.onnx", "model.trt.b4.onnx"]
    assert [call["--batch"] for call in kit.calls] == ["1", "4"]
    with pytest.raises(
        MissingError, match=r"no model\.trt\.b2\.onnx: birefnet-export .* --batch 1,2"
    ):
        kit.build(2)


def test_a_failing_batch_leaves_the_earlier_one(tmp_path: Path) -> None:
    kit = Kit(write_folder(tmp_path / "m", (1, 4)))
    kit.script.on_step = lambda step: setattr(
        kit.script, "plan", None if "b4" in kit.script.seen["parsed"] else b"a plan"
    )
    with pytest.raises(BuildError):
        kit.build(1, 4)
    assert [found.batch for found in manifests.find(kit.folder)] == [1]


# --- what is built again, and what is not


def test_the_same_plan_is_not_built_again(kit: Kit) -> None:
    (first,) = kit.build()
    (second,) = kit.build()
    assert (second.made, second.manifest) == ("", first.manifest)
    assert len(kit.calls) == 1


@pytest.mark.parametrize("options", [{"force": True}, {"level": 3}])
def test_options_build_again(kit: Kit, options: dict[str, Any]) -> None:
    kit.build()
    (again,) = kit.build(**options)
    assert again.made == "built"


@pytest.mark.parametrize("name", ["model.trt.onnx", "model.trt.onnx.data"])
def test_another_graph_is_built_again(kit: Kit, name: str) -> None:
    kit.build()
    (kit.folder / name).write_bytes(b"other")
    with pytest.raises(ContractError, match="damaged or was replaced"):
        kit.build()
    contract = contracts.read(kit.folder)
    files = {**contract.files, name: contracts.sha256(kit.folder / name)}
    replace(contract, files=files).write(kit.folder)
    (again,) = kit.build()
    assert again.made == "built"
    assert again.manifest.fits(files)
    assert not again.manifest.fits(contract.files)


def test_another_gpu_or_tensorrt_has_its_own_plan(kit: Kit) -> None:
    kit.build()
    kit.trt = make("11.4", kit.script)
    kit.build()
    assert {found.key for found in manifests.find(kit.folder)} == {KEY, KEYS["11.4"]}


def test_changed_kernels_or_contract_keep_the_plan_and_prove_it_again(kit: Kit) -> None:
    (first,) = kit.build()
    kit.script.plan = b"another plan"
    kit.kernels = Sources({"birefnet.cu": b"new kernels"})
    (second,) = kit.build()
    assert second.made == "proved again"
    assert second.manifest.plan_sha256 == first.manifest.plan_sha256
    cubin = manifests.verify(second.manifest, kit.folder, second.manifest.cubin)
    assert cubin.read_bytes() == b"new kernels for sm_90"
    replace(contracts.read(kit.folder), notice="new").write(kit.folder)
    (third,) = kit.build()
    assert third.made == "proved again"
    assert third.manifest.kernels == second.manifest.kernels
    assert [call["plan"] for call in kit.calls] == ["a plan"] * 3
    assert manifests.verify(third.manifest, kit.folder).read_bytes() == b"a plan"


@pytest.mark.parametrize("suffix", ["plan", "cubin", "json"])
def test_a_damaged_file_is_made_again(kit: Kit, suffix: str) -> None:
    kit.build()
    (kit.engines / f"{KEY}.{suffix}").write_bytes(b"{}")
    (again,) = kit.build()
    assert again.made == "built"
    assert "not used" in kit.said.getvalue()
    assert manifests.verify(again.manifest, kit.folder).read_bytes() == b"a plan"


# --- what fails, and what it leaves


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({**PASSED, "passed": False, "p999": 0.1}, r"25\.5/255 of 1\.99/255 .*--precision fp32"),
        ({**PASSED, "finite": False}, "not finite: try --precision fp32"),
        ({**PASSED, "rows_equal": False}, "build --batch 1"),
        ("crash", "ended its process with SIGSEGV"),
        ("error", "could not be proved: birefnet_runtime.prove: the GPU is out of memory"),
        ("{}", "is no proof"),
        ("nonsense", "is no proof"),
        ("[]", "is no proof"),
    ],
)
def test_a_plan_that_fails_its_proof_is_gone(
    kit: Kit, answer: str | dict[str, Any], text: str
) -> None:
    kit.answer = answer
    with pytest.raises(ProofError, match=text):
        kit.build()
    # The timings are right all the same.
    assert [Path(name).suffix for name in kit.names()] == [".cache"]


def test_a_published_plan_that_fails_its_proof_is_gone_too(kit: Kit) -> None:
    kit.build()
    kit.kernels = Sources({"birefnet.cu": b"new kernels"})
    kit.answer = "crash"
    with pytest.raises(ProofError, match="is deleted"):
        kit.build()
    assert [Path(name).suffix for name in kit.names()] == [".cache"]


def test_a_failed_rebuild_keeps_the_plan_that_was_proved(kit: Kit) -> None:
    (first,) = kit.build()
    kit.answer = "crash"
    with pytest.raises(ProofError):
        kit.build(level=3)
    assert manifests.find(kit.folder) == [first.manifest]
    assert manifests.verify(first.manifest, kit.folder).read_bytes() == b"a plan"


@pytest.mark.parametrize(
    ("complaint", "text"),
    [
        ("", r"given up\): try --level 3"),
        ("[x.cpp::1] Error Code 2: OutOfMemory (...)", "OutOfMemory.*free GPU memory"),
    ],
)
def test_a_builder_that_returns_none(kit: Kit, complaint: str, text: str) -> None:
    kit.script.plan, kit.script.complaint = None, complaint
    with pytest.raises(BuildError, match=text):
        kit.build()
    assert [Path(name).suffix for name in kit.names()] == [".cache"]


@pytest.mark.parametrize("version", VERSIONS)
def test_parse_errors_name_their_nodes(tmp_path: Path, version: str) -> None:
    folder = write_folder(tmp_path / "m")
    write_mask_model(folder / "model.trt.onnx", (1, 3, 8, 8), ("image", "alpha"), sigmoid=True)
    contract = contracts.read(folder)
    files = {**contract.files, "model.trt.onnx": contracts.sha256(folder / "model.trt.onnx")}
    replace(contract, files=files).write(folder)
    kit = Kit(folder, version)
    # 8.6 knows the number only; 10 and 11 have the name.
    kit.script.errors = (
        (1, "b/second", "UNSUPPORTED_NODE: no importer\nfor operator"),
        *((-1, "", "the file as a whole"),) * 9,
    )
    with pytest.raises(ParseError) as caught:
        kit.build()
    head, first, *rest = str(caught.value).splitlines()
    assert f"TensorRT {kit.trt.__version__} does not take model.trt.onnx: export" in head
    name = r"node 1 (Mul)" if version == "8.6.0" else "b/second"
    assert first == f"  {name}: UNSUPPORTED_NODE: no importer for operator"
    assert rest == ["  the file as a whole"] * 4 + ["  and 5 more"]


def test_an_inspection_that_makes_no_sense_stops_nothing(kit: Kit) -> None:
    kit.script.inspector = "not JSON"
    (result,) = kit.build()
    assert "damaged" in result.manifest.layers["notes"][0]


def test_a_folder_that_others_can_write(kit: Kit) -> None:
    kit.engines.mkdir()
    kit.engines.chmod(0o777)
    with pytest.raises(ManifestError, match="chmod go-w"):
        kit.build()
    assert list(kit.engines.iterdir()) == []


def test_two_builders_do_not_meet(kit: Kit) -> None:
    busy = pytest.raises(BusyError, match=f"process {os.getpid()} is building")
    with store.hold(kit.folder), busy:
        kit.build()
    kit.build()


def test_what_a_killed_builder_left_is_removed(kit: Kit) -> None:
    kit.build()
    left = kit.engines / ".draft-x"
    left.mkdir()
    (left / f"{KEY}.plan").write_bytes(b"half")
    kit.build()
    assert not left.exists()


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("nano", r"nano has no TensorRT graph: birefnet-export .*nano\.safetensors out/nano"),
        ("nowhere", "is no model folder: birefnet-export WEIGHTS nowhere"),
    ],
)
def test_what_is_no_model_folder(kit: Kit, model: str, text: str) -> None:
    with pytest.raises(MissingError, match=text):
        kit.shop(Request(model))


def test_a_folder_without_a_typed_graph(tmp_path: Path) -> None:
    kit = Kit(write_folder(tmp_path / "m", files={}))
    with pytest.raises(MissingError, match=r"no model\.trt\.onnx: birefnet-export WEIGHTS \S+/m$"):
        kit.build()
    with pytest.raises(MissingError, match=r"no model\.trt\.fp32\.onnx: .* --precision fp32$"):
        kit.build(precision="fp32")


def test_the_driver_is_looked_for_before_tensorrt_and_the_model(kit: Kit) -> None:
    def probe() -> Any:
        raise MissingError("no driver")

    def load() -> Any:
        raise MissingError("no TensorRT")

    from birefnet_engine.build import open_workshop
    from birefnet_engine.progress import Screen

    tools = kit.tools()
    with pytest.raises(MissingError, match="no driver"):
        open_workshop(Request("nano"), replace(tools, probe=probe, tensorrt=load), Screen())
    with pytest.raises(MissingError, match="no TensorRT"):
        open_workshop(Request("nano"), replace(tools, tensorrt=load), Screen())


# --- the timing cache


def test_timings_are_kept_and_used(kit: Kit) -> None:
    kit.build()
    path = kit.engines / "timing-10.16.1.11-nvidia-h200.cache"
    assert path.read_bytes() == b"cache|10.16.1.11|timed 0"
    kit.build(force=True)
    assert path.read_bytes() == b"cache|10.16.1.11|timed 0|timed 1"
    assert "starting a new one" not in kit.said.getvalue()


@pytest.mark.parametrize("data", [b"rubbish", b"cache|9.9|timed 7"])
def test_a_foreign_cache_is_replaced_with_a_word(kit: Kit, data: bytes) -> None:
    kit.engines.mkdir(mode=0o700)
    path = kit.engines / "timing-10.16.1.11-nvidia-h200.cache"
    path.write_bytes(data)
    kit.build()
    assert "starting a new one" in kit.said.getvalue()
    assert path.read_bytes() == b"cache|10.16.1.11|timed 0"


def test_what_others_timed_meanwhile_is_kept(kit: Kit) -> None:
    kit.build()
    path = kit.engines / "timing-10.16.1.11-nvidia-h200.cache"

    def meanwhile(step: int) -> None:
        path.write_bytes(b"cache|10.16.1.11|other")

    kit.script.on_step = meanwhile
    kit.build(force=True)
    assert path.read_bytes() == b"cache|10.16.1.11|other|timed 0|timed 1"


def test_a_cache_that_cannot_be_written_is_not_fatal(kit: Kit) -> None:
    kit.engines.mkdir(mode=0o700)
    (kit.engines / "timing-10.16.1.11-nvidia-h200.cache").mkdir()
    (result,) = kit.build()
    assert result.made == "built"
    assert "timing cache is not kept" in kit.said.getvalue()


# --- Ctrl-C


@pytest.mark.parametrize("version", ["10.16", "11.4"])
def test_ctrl_c_stops_the_builder_and_keeps_its_timings(tmp_path: Path, version: str) -> None:
    kit = Kit(write_folder(tmp_path / "m"), version)
    # An hour, unless it is stopped.
    kit.script.steps, kit.script.pause = 36000, 0.1
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        kit.build()
    assert [Path(name).suffix for name in kit.names()] == [".cache"]
    assert "timed 0" in next(kit.engines.glob("*.cache")).read_text()
    kit.script.steps = 3
    kit.build()


def test_inspect_reads_only_what_was_proved(kit: Kit) -> None:
    (result,) = kit.build()
    shop = kit.shop(Request(str(kit.folder)))
    found = inspect(shop, result.manifest)
    assert [layer.kind for layer in found.layers] == ["kgen", "GridSample"]
    (kit.engines / f"{KEY}.plan").write_bytes(b"tampered")
    with pytest.raises(ManifestError, match="damaged or was replaced"):
        inspect(shop, result.manifest)


def test_a_folder_that_cannot_be_written(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(EngineError, match=r"Permission denied.*of your own"):
        kit.build()
