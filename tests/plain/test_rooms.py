"""What the layout promises: rooms, the wheel's files, function lengths, one order of steps."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {
    "birefnet_export": ROOT / "export",
    "birefnet_engine": ROOT / "engine",
    "birefnet_runtime": ROOT / "runtime",
}
# The house style's limit; the mean is near a fifth of it.
LONGEST = 60


def sources() -> list[Path]:
    folders = [*ROOMS.values(), ROOT / "bench", ROOT / "tests", ROOT / "examples"]
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names in a wheel built from this tree."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_the_wheel_holds_every_file_of_the_rooms_and_nothing_else(wheel: set[str]) -> None:
    expected = {
        f"{name}/{path.relative_to(folder / name).as_posix()}"
        for name, folder in ROOMS.items()
        for path in (folder / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    found = {name for name in wheel if ".dist-info/" not in name}
    assert found == expected


def test_the_wheel_carries_types_model_and_licence(wheel: set[str]) -> None:
    assert {f"{name}/py.typed" for name in ROOMS} <= wheel
    model = "birefnet_runtime/models/nano/"
    assert {model + "contract.json", model + "model.onnx"} <= wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_rooms_hold_one_package_each() -> None:
    for name, folder in ROOMS.items():
        importable = {path.name for path in folder.iterdir() if path.suffix == ".py"}
        packages = {path.parent.name for path in folder.glob("*/__init__.py")}
        assert not importable
        assert packages == {name}


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LONGEST, f"{node.name} has {length} lines"


def test_the_contract_needs_the_standard_library_only() -> None:
    code = (
        "import sys; before = set(sys.modules); import birefnet_export.contract;"
        "print(*{n.partition('.')[0] for n in set(sys.modules) - before})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) - set(sys.stdlib_module_names) == {"birefnet_export"}


def test_runtime_and_engine_keep_to_the_syntax_of_python_310() -> None:
    for name in ("birefnet_runtime", "birefnet_engine"):
        for path in ROOMS[name].rglob("*.py"):
            ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


def test_extras_are_the_designs() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = data["project"]["optional-dependencies"]
    gpu = {"tensorrt", "tensorrt-cu12", "tensorrt-cu13"}
    assert set(extras) == {"cpu", "gpu", "heif", "export", "serve", "quality", "dev"} | gpu
    # Libraries of two CUDA majors in one process do not go together.
    for major in (12, 13):
        bindings = next(item for item in extras[f"tensorrt-cu{major}"] if "cuda-bindings" in item)
        assert bindings.endswith(f"<{major + 1}")
    # Both distributions install the module onnxruntime and would overwrite each other.
    assert not any("onnxruntime" in item for item in data["project"]["dependencies"])
    assert not any("onnxruntime" in item for item in extras["export"])
    torch = next(item for item in extras["export"] if item.startswith("torch"))
    assert torch == "torch>=2.9,<2.14"


def test_every_make_target_is_listed_and_short() -> None:
    help_text = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for target in ("demo", "test", "test-all", "check", "export", "parity", "bench", "wheel"):
        assert f"{target} " in help_text
