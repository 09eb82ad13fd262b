"""TensorRT's names: each exists in the versions that reach it, by the tables of the real API."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from birefnet_engine import api
from birefnet_engine.errors import BuildError, MissingError
from helpers.api_names import MAJORS, TABLES, Use, majors_of, uses
from helpers.fake_tensorrt import TABLES as FOLDER
from helpers.fake_tensorrt import VERSIONS, Script, make

ROOT = Path(__file__).resolve().parents[2]
ENGINE, RUNTIME = "engine/birefnet_engine", "runtime/birefnet_runtime"
# File -> its variables that hold TensorRT's objects -> the object's class.
FILES: dict[str, dict[str, str]] = {
    f"{ENGINE}/api.py": {
        "builder": "Builder",
        "config": "IBuilderConfig",
        "engine": "ICudaEngine",
        "error": "ParserError",
        "layer": "ILayer",
        "runtime": "Runtime",
    },
    f"{ENGINE}/builder.py": {
        "builder": "Builder",
        "engine": "ICudaEngine",
        "inspector": "EngineInspector",
    },
    f"{ENGINE}/config.py": {"builder": "Builder", "config": "IBuilderConfig"},
    f"{ENGINE}/network.py": {
        "error": "ParserError",
        "item": "ITensor",
        "layer": "ILayer",
        "network": "INetworkDefinition",
        "parser": "OnnxParser",
    },
    f"{ENGINE}/timing.py": {"cache": "ITimingCache", "config": "IBuilderConfig"},
    f"{ENGINE}/build.py": {},
    f"{RUNTIME}/plan.py": {
        "context": "IExecutionContext",
        "engine": "ICudaEngine",
        "self._context": "IExecutionContext",
        "self._engine": "ICudaEngine",
        "self._runtime": "Runtime",
    },
}


def found(path: str) -> list[Use]:
    return uses((ROOT / path).read_text(encoding="utf-8"), FILES[path])


@pytest.mark.parametrize("path", FILES)
def test_every_name_exists_in_the_versions_that_reach_it(path: str) -> None:
    wrong = [
        f"{path}:{use.line} {use.name}: not in {set(use.missing)}"
        for use in found(path)
        if use.missing
    ]
    assert not wrong


def test_every_declared_variable_is_used_and_every_file_is_declared() -> None:
    for path, variables in FILES.items():
        seen = {use.name.partition(".")[0] for use in found(path)}
        assert set(variables.values()) <= seen, path
    for room in (ENGINE, RUNTIME):
        for file in (ROOT / room).glob("*.py"):
            text = file.read_text(encoding="utf-8")
            if uses(text, {}) or 'import_module("tensorrt")' in text:
                assert f"{room}/{file.name}" in FILES


def test_one_file_of_each_room_imports_tensorrt() -> None:
    for room, home in ((ENGINE, "api.py"), (RUNTIME, "plan.py")):
        files = (ROOT / room).glob("*.py")
        importing = re.compile(r"^\s*(import|from) tensorrt|import_module\(.tensorrt", re.MULTILINE)
        found = [file.name for file in files if importing.search(file.read_text(encoding="utf-8"))]
        assert found == [home]


def test_the_declared_versions_are_the_true_ones() -> None:
    for name, majors in api.ONLY.items():
        assert majors_of(name) == set(majors), name
        assert majors_of(name) != MAJORS, f"{name} is everywhere: no guard is needed"
    used = {use.name for path in FILES if path.startswith(ENGINE) for use in found(path)}
    assert {name for name in used if majors_of(name) != MAJORS} <= set(api.ONLY)
    assert set(api.ONLY) <= used


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("trt.BuilderFlag.FP16", {11}),
        ("trt.BuilderFlag.FP61", {8, 10, 11}),
        ("config.max_workspace_size = 1", {10, 11}),
        ("config.builder_optimisation_level = 1", {8, 10, 11}),
        ("class M(trt.IProgressMonitor): pass", {8}),
        ("if has(trt, 'BuilderFlag.FP16'): trt.BuilderFlag.FP16", set()),
        ("if has(trt, 'BuilderFlag.FP16'):\n pass\nelse:\n trt.BuilderFlag.FP16", {11}),
        ("if not has(trt, 'BuilderFlag.FP16'):\n return\ntrt.BuilderFlag.FP16", set()),
        ("if has(trt, 'IProgressMonitor'): trt.BuilderFlag.FP16", {11}),
        ("if x or has(trt, 'BuilderFlag.FP16'): trt.BuilderFlag.FP16", {11}),
        ("x and has(trt, 'BuilderFlag.FP16') and trt.BuilderFlag.FP16", set()),
        ("trt.BuilderFlag.FP16 if hasattr(trt.BuilderFlag, 'FP16') else 0", set()),
        ("if hasattr(config, 'progress_monitor'): config.progress_monitor = 1", set()),
        ("if True:\n config.progress_monitor = 1", {8}),
    ],
)
def test_what_the_walk_sees(source: str, missing: set[int]) -> None:
    body = source.replace("\n", "\n ")
    seen = uses(f"def f():\n {body}\n", {"config": "IBuilderConfig"})
    assert set().union(*(use.missing for use in seen)) == missing


def test_the_tables_are_small_and_of_three_versions() -> None:
    assert set(TABLES) == {8, 10, 11}
    # The working tree is kept small.
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 150_000


@pytest.mark.parametrize(
    ("version", "bits", "typed"),
    [("8.6.0", 0b1, False), ("10.16", 0b11, True), ("11.4", 0b1, True)],
)
def test_network_flags(version: str, bits: int, typed: bool) -> None:
    script = Script()
    trt = make(version, script)
    api.create_network(trt, trt.Builder(None))
    # 8.6: EXPLICIT_BATCH is bit 0. 10: STRONGLY_TYPED is bit 1. 11: STRONGLY_TYPED is bit 0.
    assert script.seen["network_flags"] == bits
    assert api.strongly_typed(trt) is typed


def test_an_undeclared_name_is_a_mistake() -> None:
    with pytest.raises(KeyError, match="not declared"):
        api.has(make("8.6.0"), "BuilderFlag.TF32")


def use(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """Let ``import tensorrt`` answer with a module or an exception."""

    def import_module(name: str) -> Any:
        assert name == "tensorrt"
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(api, "import_module", import_module)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (ModuleNotFoundError("No module named 'tensorrt'"), "is not installed: pip install"),
        (ImportError("libnvinfer.so.10: not found"), "libnvinfer.so.10"),
        (OSError("bad ELF"), "does not load"),
    ],
)
def test_without_tensorrt(monkeypatch: pytest.MonkeyPatch, answer: Exception, text: str) -> None:
    use(monkeypatch, answer)
    with pytest.raises(MissingError, match=text):
        api.load()


def test_an_old_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("tensorrt")
    module.__version__ = "8.5.3.1"
    use(monkeypatch, module)
    with pytest.raises(MissingError, match=r"8\.5\.3\.1 is older than 8\.6"):
        api.load()
    module.__version__ = "8.6.0"
    assert api.load() is module


@pytest.mark.parametrize("version", VERSIONS)
def test_a_gpu_that_tensorrt_refuses(version: str) -> None:
    trt = make(version, Script(refuse_gpu=True))
    with pytest.raises(BuildError, match="does not start on this GPU"):
        api.make_builder(trt, None)
    with pytest.raises(BuildError, match="does not start on this GPU"):
        api.make_engine(trt, None, b"")
