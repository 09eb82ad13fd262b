"""rembg as a contestant, without rembg: where its steps end, and what its session is given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from measuring.rembg_child import Marks, Run, session_class

MODEL: dict[str, Any] = {
    "path": "model.onnx",
    "width": 6,
    "height": 4,
    "mean": [0.5, 0.5, 0.5],
    "std": [1.0, 1.0, 1.0],
    "activation": "none",
}


class Base:
    """What rembg's own base class gives: a session made from the file, and a normalised picture."""

    def __init__(self) -> None:
        self.inner_session = self
        self.seen: list[Any] = []

    def normalize(self, img: Any, mean: Any, std: Any, size: tuple[int, int]) -> dict[str, Any]:
        self.seen.append((mean, std, size))
        return {"image": np.zeros((1, 3, size[1], size[0]), np.float32)}

    def run(self, names: None, feed: dict[str, Any]) -> list[Any]:
        return [np.linspace(-2, 2, 24, dtype=np.float32).reshape(1, 1, 4, 6)]


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_its_session_has_the_models_size_and_stretches_the_mask(activation: str) -> None:
    session = session_class(Base, {**MODEL, "activation": activation})()
    (mask,) = session.predict(Image.new("RGB", (60, 40)))
    assert session.seen == [(MODEL["mean"], MODEL["std"], (6, 4))]
    assert mask.size == (60, 40)
    # rembg rescales every mask to the full range.
    assert mask.getextrema() == (0, 255)
    assert session.download_models() == "model.onnx"


def test_steps_end_where_its_functions_return() -> None:
    clock = iter([10.0, 11.0, 13.0, 16.0, 20.0])
    marks = Marks(lambda: next(clock))
    library = SimpleNamespace(orient=lambda image: image, join=lambda parts: parts)
    marks.after(library, "orient", "decode")
    marks.after(library, "join", "refine")
    session = Base()
    runner = SimpleNamespace(run=session.run, get_inputs=list)
    marks.begin()
    assert library.orient("picture") == "picture"
    assert Run(runner, marks).run(None, {})[0].shape == (1, 1, 4, 6)
    assert library.join([1]) == [1]
    marks.end("encode")
    assert marks.steps == {"decode": 1.0, "model": 2.0, "refine": 3.0, "encode": 4.0}
