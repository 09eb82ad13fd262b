"""rembg round a model of no cost, as a contestant: JPEG bytes to PNG bytes."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

from measuring.line import Answer, serve
from measuring.rembg_child import LIBRARIES, Rembg, session_class

# What BiRefNet is normalised with: ImageNet's.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Free:
    """Stands for ONNX Runtime's session: always the same answer, at once."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="image")]

    def run(self, *args: Any) -> list[Any]:
        return [self._answer[None, None]]


class RembgForNothing(Rembg):
    """``Rembg``, whose model is the file ``answer`` of the request, from np.save."""

    def open(self, request: dict[str, Any]) -> Answer:
        """Import rembg and make a session without a file."""
        answer = import_module("numpy").load(request["answer"])
        self._bg = import_module("rembg.bg")
        base = import_module("rembg.sessions.base").BaseSession
        height, width = answer.shape
        about = {"mean": MEAN, "std": STD, "height": height, "width": width, "activation": "none"}
        kind = session_class(base, about)
        self._session = kind.__new__(kind)
        self._session.inner_session = Free(answer)
        self._decontaminate = bool(request.get("decontaminate"))
        self._mark()
        found = {f"rembg's {name}": version(name) for name in LIBRARIES[1:]}
        found["rembg"] = version("rembg")
        return {"seconds": 0.0, "about": f"rembg {found['rembg']}", "libraries": found}


def main() -> int:
    """Serve until stdin ends."""
    rembg = RembgForNothing()
    return serve({"open": rembg.open, "cut": rembg.cut})


if __name__ == "__main__":
    sys.exit(main())
