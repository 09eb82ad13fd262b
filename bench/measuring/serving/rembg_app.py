"""rembg's own server as a contestant: its command, its steps, and the same stub as a session."""

from __future__ import annotations

import json
import sys
import webbrowser
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from measuring.fixed import Clock, Fixed, disc
from measuring.rembg_child import session_class

# What BiRefNet is normalised with: ImageNet's.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NAME = "bench"


class Stub:
    """Stands for ONNX Runtime's session: takes its time, answers the disc."""

    def __init__(self, fixed: Fixed) -> None:
        self._clock, self._disc = Clock(fixed), disc(fixed.side)

    def get_inputs(self) -> list[Any]:
        """One input."""
        return [SimpleNamespace(name="image")]

    def run(self, *args: Any) -> list[Any]:
        """The answer to one picture: rembg has no batches."""
        self._clock.run(1)
        return [self._disc[None, None]]


def stub_session(base: Any, fixed: Fixed) -> Any:
    """A kind of rembg session that needs no file, under NAME."""
    about = {
        "mean": MEAN,
        "std": STD,
        "height": fixed.side,
        "width": fixed.side,
        "activation": "none",
    }

    class Session(session_class(base, about)):  # type: ignore[misc]
        def __init__(self, model_name: str, *args: Any, **kwargs: Any) -> None:
            self.model_name, self.inner_session = model_name, Stub(fixed)

        @classmethod
        def name(cls, *args: Any, **kwargs: Any) -> str:
            return NAME

    return Session


def main() -> int:
    """``rembg s --no-ui`` on the port of the request in argv until a signal."""
    asked = json.loads(sys.argv[1])
    sessions = import_module("rembg.sessions")
    base = import_module("rembg.sessions.base").BaseSession
    sessions.sessions_class.append(stub_session(base, Fixed(**asked["stub"])))
    sessions.sessions_names.append(NAME)
    # Its start opens a browser.
    webbrowser.open = lambda *args, **kwargs: False
    command: Any = import_module("rembg.commands.s_command").s_command
    command.callback(asked["port"], "127.0.0.1", "warning", None, True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
