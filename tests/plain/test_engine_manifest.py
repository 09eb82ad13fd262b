"""The manifest: written, found, and what it refuses to vouch for."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from birefnet_engine import manifest
from birefnet_engine.manifest import Manifest, ManifestError

PLAN = b"a plan"
KEY = "trt8.6.0-nvidia-h200-sm90-fp16-b1"
FULL = Manifest(
    key=KEY,
    tensorrt="8.6.0",
    gpu="NVIDIA H200",
    capability=(9, 0),
    precision="fp16",
    batch=1,
    onnx="model.trt.onnx",
    onnx_sha256="0" * 64,
    contract_sha256="1" * 64,
    plan_sha256=hashlib.sha256(PLAN).hexdigest(),
    plan_bytes=len(PLAN),
    kernels={f"{KEY}.ptx": hashlib.sha256(b"ptx").hexdigest()},
    kernels_source="2" * 64,
    options={"level": 5},
    seconds=1.5,
    parity={"mean": 0.0},
    layers={"layers": 3},
    versions={"python": "3.10"},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with one plan."""
    engines = tmp_path / "engines"
    engines.mkdir(mode=0o700)
    (engines / FULL.plan).write_bytes(PLAN)
    (engines / FULL.ptx).write_bytes(b"ptx")
    for path in engines.iterdir():
        path.chmod(0o600)
    FULL.write(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("gpu", "capability", "expected"),
    [
        ("NVIDIA H200", (9, 0), KEY),
        ("NVIDIA GeForce RTX 4090", (8, 9), "trt8.6.0-nvidia-geforce-rtx-4090-sm89-fp16-b1"),
        ("NVIDIA RTX PRO 6000 (x/../y)", (12, 0), "trt8.6.0-nvidia-rtx-pro-6000-x-..-y-sm120"),
    ],
)
def test_a_key_names_the_machine(gpu: str, capability: tuple[int, int], expected: str) -> None:
    found = manifest.key("8.6.0", gpu, capability, "fp16", 1)
    assert found.startswith(expected)
    assert "/" not in found


def test_what_is_written_is_found_again(folder: Path) -> None:
    assert manifest.find(folder) == [FULL]
    assert manifest.read(folder / "engines" / f"{KEY}.json") == FULL
    mode = (folder / "engines" / f"{KEY}.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_the_smallest_batch_comes_first(folder: Path) -> None:
    for batch in (10, 4):
        key = manifest.key("8.6.0", "NVIDIA H200", (9, 0), "fp16", batch)
        replace(FULL, key=key, batch=batch, kernels={}).write(folder)
    assert [item.batch for item in manifest.find(folder)] == [1, 4, 10]
    assert manifest.find(folder / "engines") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "build it again"),
        ({"batch": 4}, "contradicts its own fields"),
        ({"batch": True}, "batch is True"),
        ({"capability": [9]}, "capability"),
        ({"capability": "90"}, "capability"),
        ({"precision": "int8"}, "int8"),
        ({"plan_sha256": None}, "plan_sha256"),
        ({"kernels": {"../../evil.cubin": "0" * 64}}, "foreign kernel file"),
        ({"colour": 1}, "unknown fields colour"),
    ],
)
def test_bad_values_are_named(folder: Path, change: dict[str, object], message: str) -> None:
    path = folder / "engines" / f"{KEY}.json"
    path.write_text(json.dumps({**json.loads(FULL.to_json()), **change}))
    with pytest.raises(ManifestError, match=message):
        manifest.find(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"capability": [9, 0]}', "\udcff"])
def test_what_is_no_manifest(folder: Path, text: str) -> None:
    (folder / "engines" / f"{KEY}.json").write_text(text, errors="surrogateescape")
    with pytest.raises(ManifestError, match="birefnet-build"):
        manifest.find(folder)


def test_a_renamed_manifest_is_refused(folder: Path) -> None:
    path = folder / "engines" / f"{KEY}.json"
    with pytest.raises(ManifestError, match=f"is the manifest of {KEY}"):
        manifest.read(path.rename(path.with_name("other.json")))


def test_bytes_are_compared(folder: Path) -> None:
    assert manifest.verify(FULL, folder) == folder / "engines" / FULL.plan
    assert manifest.verify(FULL, folder, FULL.ptx).name == FULL.ptx
    (folder / "engines" / FULL.plan).write_bytes(b"A plan")
    with pytest.raises(ManifestError, match="damaged or was replaced"):
        manifest.verify(FULL, folder)
    (folder / "engines" / FULL.plan).unlink()
    with pytest.raises(ManifestError, match="is missing although"):
        manifest.verify(FULL, folder)
    with pytest.raises(ManifestError, match=r"lists no .*\.cubin"):
        manifest.verify(FULL, folder, FULL.cubin)


@pytest.mark.parametrize("target", ["engines", f"engines/{KEY}.plan", f"engines/{KEY}.ptx"])
@pytest.mark.parametrize("bit", [stat.S_IWGRP, stat.S_IWOTH])
def test_what_others_can_write_is_not_loaded(folder: Path, target: str, bit: int) -> None:
    path = folder / target
    path.chmod(stat.S_IMODE(path.stat().st_mode) | bit)
    with pytest.raises(ManifestError, match="chmod go-w"):
        manifest.verify(FULL, folder, FULL.ptx if target.endswith("ptx") else None)


def test_another_users_folder_is_not_trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = folder.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner == 0:
        # What root owns, everybody may load.
        manifest.check_private(folder)
        os.chown(folder / "engines", 4711, -1)
    with pytest.raises(ManifestError, match="belongs to user"):
        manifest.check_private(folder)


def test_a_folder_without_engines(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="is no folder"):
        manifest.check_private(tmp_path)


def test_the_manifest_needs_the_standard_library_only() -> None:
    code = (
        "import sys; before = set(sys.modules); import birefnet_engine.manifest;"
        "print(*{n.partition('.')[0] for n in set(sys.modules) - before})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {"birefnet_engine", "birefnet_export"}
    assert set(run.stdout.split()) - set(sys.stdlib_module_names) == ours
