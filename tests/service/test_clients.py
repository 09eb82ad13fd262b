"""Published clients of remove.bg cut out pictures here, with nothing changed but the host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.live import Live, serving
from helpers.pictures import Pixels, decoded, disc, encoded

pytestmark = pytest.mark.slow

PYTHON_CLIENT, NODE_CLIENT = "removebg==0.04", "remove.bg@1.3.0"
SCRIPTS = Path(__file__).parent / "clients"
KEY = "correct-key"
HEIGHT, WIDTH = 600, 800
# Seconds, far longer than an installation or a picture takes.
PATIENCE = 300

needs_node = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")), reason="node and npm are not installed"
)


@pytest.fixture(scope="module")
def live(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service that wants a key."""
    folder = tmp_path_factory.mktemp("service")
    with serving(tiny, folder, keys=[KEY]) as service:
        yield service


@pytest.fixture(scope="module")
def python_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pip")
    run(
        "pip",
        [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), PYTHON_CLIENT],
    )
    return folder


@pytest.fixture(scope="module")
def node_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("npm")
    quiet = ["--no-audit", "--no-fund", "--no-package-lock"]
    run("npm", ["npm", "install", *quiet, "--prefix", str(folder), NODE_CLIENT])
    return folder / "node_modules"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(disc(HEIGHT, WIDTH)))
    return path


def run(name: str, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    found = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, **environment},
        check=False,
    )
    assert name not in ("pip", "npm") or found.returncode == 0, found.stderr
    return found


def by_python(
    client: Path, live: Live, key: str, picture: Path
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / "cut_out.py"), host(live), key, str(picture)]
    return run("client", command, PYTHONPATH=str(client))


def by_node(client: Path, live: Live, key: str, picture: Path) -> subprocess.CompletedProcess[str]:
    scripts = [str(SCRIPTS / name) for name in ("host.js", "cut_out.js")]
    command = ["node", "--require", *scripts, key, str(picture), f"{picture}.png"]
    return run("client", command, NODE_PATH=str(client), REMOVEBG_HOST=host(live))


def host(live: Live) -> str:
    return f"http://127.0.0.1:{live.port}"


def check_disc(rgba: Pixels) -> None:
    """A bright disc was cut out: opaque in the middle, nothing at the border."""
    middle = tuple(side // 2 for side in rgba.shape[:2])
    assert rgba[middle].tolist() == [240, 220, 200, 255]
    assert rgba[[0, -1]][..., 3].max() == 0


def test_the_python_client_saves_a_cut_out(live: Live, python_client: Path, picture: Path) -> None:
    done = by_python(python_client, live, KEY, picture)
    assert done.returncode == 0, done.stderr
    rgba = decoded(Path(f"{picture}_no_bg.png").read_bytes())
    assert rgba.shape == (HEIGHT, WIDTH, 4)
    check_disc(rgba)


def test_the_python_client_reports_what_went_wrong(
    live: Live, python_client: Path, picture: Path
) -> None:
    wrong = by_python(python_client, live, "wrong-key", picture)
    assert "HTTPError: 403 Client Error" in wrong.stderr
    picture.write_bytes(b"no picture")
    bad = by_python(python_client, live, KEY, picture)
    assert "HTTPError: 400 Client Error" in bad.stderr
    assert not Path(f"{picture}_no_bg.png").exists()


@needs_node
def test_the_node_client_saves_a_cut_out(live: Live, node_client: Path, picture: Path) -> None:
    done = by_node(node_client, live, KEY, picture)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout)
    rgba = decoded(Path(f"{picture}.png").read_bytes())
    assert (facts["resultHeight"], facts["resultWidth"]) == tuple(map(str, rgba.shape[:2]))
    assert (facts["creditsCharged"], facts["detectedType"]) == ("0", "other")
    # The disc, two thirds of the height across, and a tenth of it on each side; the tiny model's
    # pixels are 25 wide here, and it may be off by one on each side.
    assert abs(rgba.shape[0] - 1.2 * HEIGHT * 2 / 3) <= 60
    check_disc(rgba)


@needs_node
def test_the_node_client_reports_what_went_wrong(
    live: Live, node_client: Path, picture: Path
) -> None:
    assert error(by_node(node_client, live, "wrong-key", picture))["code"] == "auth_failed"
    picture.write_bytes(b"no picture")
    assert error(by_node(node_client, live, KEY, picture))["code"] == "invalid_file_type"
    assert not Path(f"{picture}.png").exists()


def error(done: subprocess.CompletedProcess[str]) -> Any:
    """The one error that the client rejected with."""
    assert done.returncode == 1, done.stdout + done.stderr
    (found,) = json.loads(done.stdout)
    assert found["title"]
    return found
