"""The CUDA kernels, compiled as C++, give the bits of their NumPy twins, and stay in bounds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from birefnet_runtime import launches, multilevel
from birefnet_runtime.frame import Box
from birefnet_runtime.launches import Picture, Plane, Plates, Table
from birefnet_runtime.levels import Pyramid
from helpers import emulator, kernel_cases, reference
from helpers.emulator import KERNELS, Emulator

HELPERS = Path(emulator.__file__).parents[1]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    if not emulator.compiler():
        pytest.skip("no C++ compiler (g++, or $CXX)")
    return Emulator.build(tmp_path_factory.mktemp("kernels"))


def test_kernels_equal_their_twins(host: Emulator) -> None:
    seen = set()
    for case in kernel_cases.cases():
        assert case.name not in seen
        seen.add(case.name)
        kernel_cases.check(case, kernel_cases.on_host(case, host.execute))


def test_launches_run_as_twins() -> None:
    for case in kernel_cases.cases(large=False):
        kernel_cases.check(case, kernel_cases.on_host(case, reference.execute))


def test_no_kernel_touches_a_byte_outside(tmp_path: Path) -> None:
    preload = emulator.sanitizer() if emulator.compiler() else None
    if not preload:
        pytest.skip("no C++ compiler with the address sanitizer")
    # Python itself leaves memory to the end of the process.
    environment = {"LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "1"}
    path = os.pathsep.join([str(HELPERS), *filter(None, sys.path)])
    command = [sys.executable, emulator.__file__, str(tmp_path)]
    run = subprocess.run(
        command, env=os.environ | environment | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
    assert int(run.stdout.split()[0]) > 100


def test_a_missing_barrier_shows(host: Emulator, tmp_path: Path) -> None:
    """The emulator itself: without __syncthreads a thread reads what nobody has staged yet."""
    for path in KERNELS.iterdir():
        text = path.read_text().replace("__syncthreads();", "")
        (tmp_path / path.name).write_text(text)
    broken = Emulator(emulator.compiled(tmp_path, kernels=tmp_path))
    case = next(case for case in kernel_cases.cases() if "301x211x3" in case.name)
    with pytest.raises(AssertionError, match=r"rows: \d+ of \d+ differ"):
        kernel_cases.check(case, kernel_cases.on_host(case, broken.execute))


def test_sources_include_nothing_but_each_other() -> None:
    names = {path.name for path in KERNELS.iterdir()}
    assert names == {
        "birefnet.cu",
        "common.h",
        "resize.h",
        "alpha.h",
        "compose.h",
        "foreground.h",
    }
    for path in KERNELS.iterdir():
        text = path.read_text(encoding="ascii")
        included = re.findall(r"^\s*#\s*include\s*(.*)$", text, re.MULTILINE)
        assert {name.strip('"') for name in included} <= names
        assert max(map(len, text.splitlines())) <= 100


def test_a_picture_and_its_alpha() -> None:
    picture = Picture(64, 10, 7, 4)
    assert picture.pitch == 28
    assert Plane.inside(picture) == Plane(67, 28, 4)
    assert picture.part(Box(2, 3, 4, 1)) == Picture(64 + 2 * 28 + 3 * 4, 4, 1, 4, 28)
    with pytest.raises(ValueError, match="no alpha"):
        Plane.inside(Picture(0, 10, 7, 3))
    with pytest.raises(ValueError, match="pitch"):
        Picture(0, 10, 7, 3, pitch=20)
    with pytest.raises(ValueError, match="channels"):
        Picture(0, 10, 7, 1)
    with pytest.raises(ValueError, match="no pixels"):
        Picture(0, 0, 7)


def test_launches_that_cuda_would_refuse_or_that_would_fault() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        launches.cutout(0, (8, 8), Picture(0, 8, 8), 1026)
    with pytest.raises(ValueError, match="multiple of 4"):
        launches.colours_image(Picture(0, 8, 8), 0, None, 1026, launches.MULTIPLIED)
    with pytest.raises(ValueError, match="not small"):
        launches.colours_coarse(Picture(0, 99, 99), 0, 7, 0, 10, 0, Plates(0, (99, 99)))
    # The tallest strip that decode lets through is far below; gridDim.y would end at 65535.
    table = Table(0, 0, 3, 1024)
    assert launches.resize_rows(Picture(0, 400_000, 1), table, 0).grid[0] == 16 * 100_000
    with pytest.raises(ValueError, match="blocks"):
        launches.resize_rows(Picture(0, 2**31 - 1, 1), table, 0)


def test_the_numbers_of_the_pyramid_are_those_of_the_kernels() -> None:
    text = (KERNELS / "foreground.h").read_text()
    assert float(re.findall(r"kRegularization = ([\d.e-]+)f;", text)[0]) == (
        multilevel.REGULARIZATION
    )
    # Alpha, an integer, that counts as sure.
    assert "a >= 26 && a <= 229" in text
    assert 25 < 255 * multilevel.SURELY_BACKGROUND < 26
    assert 229 < 255 * multilevel.SURELY_FOREGROUND < 230


def test_memory_of_the_pyramid() -> None:
    scratch = launches.COARSE_SCRATCH
    for megapixels, size in ((12, (3000, 4000)), (24, (4000, 6000)), (100, (8660, 11547))):
        megabytes = (Pyramid.of(size).nbytes - scratch) / 1e6
        assert 4 * megapixels <= megabytes <= 4.01 * megapixels
    for size in ((1, 1), (32, 20), (33, 1), (1, 5000), (64, 64), (65, 1), (700, 900)):
        pyramid, pixels = Pyramid.of(size), size[0] * size[1]
        large = max(size) > multilevel.MIDDLE_SIZE
        assert pyramid.nbytes - scratch <= (8 * (pixels + 2) if large else 16 * pixels)
        found, plates = pyramid.launch(Picture(0, *size), 0, 1 << 20)
        left = [multilevel.sweeps(*at) for at in enumerate(pyramid.sizes)]
        assert len(found) == 1 + sum(left[pyramid.last : pyramid.small]) // launches.LEVEL_SWEEPS
        assert (plates.size != size) == (pyramid.last == 1) == large
        assert plates.pointer + plates.nbytes <= (1 << 20) + pyramid.nbytes


def test_scale_is_rounded_as_opencv_rounds_it() -> None:
    # 1 / (1000 / 49) is one unit in the last place off 49 / 1000.
    assert launches.scale(49, 1000) == np.float64(1) / (np.float64(1000) / np.float64(49))
