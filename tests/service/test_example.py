"""The service of forty lines in the README: what is shown is what runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from fastapi.testclient import TestClient

from helpers.pictures import decoded, disc, encoded

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "examples" / "service.py"


@pytest.fixture(scope="module")
def service() -> ModuleType:
    spec = importlib.util.spec_from_file_location("service", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_shows_it() -> None:
    text = "".join(f"    {line}".rstrip() + "\n" for line in SOURCE.read_text().splitlines())
    assert text.strip() in (ROOT / "README.md").read_text()
    assert len(SOURCE.read_text().splitlines()) <= 45


def test_it_cuts_out_and_tells_what_is_wrong(service: ModuleType) -> None:
    with TestClient(service.app) as client:
        answer = client.post("/cutout", content=encoded(disc(), "JPEG"))
        assert answer.status_code == 200
        assert decoded(answer.content).shape == (48, 64, 3)
        # The corner is background, and that is white now.
        assert np.asarray(decoded(answer.content))[0, 0].min() > 200
        bad = client.post("/cutout", content=b"no picture")
        assert (bad.status_code, "is none of JPEG" in bad.text) == (415, True)
        matting = service.app.state.matting
    assert matting.load.running == 0
