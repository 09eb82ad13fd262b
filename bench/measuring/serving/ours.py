"""Our server as a contestant: ``birefnet serve``, round a stub or a model."""

from __future__ import annotations

import json
import sys
from typing import Any

from birefnet_runtime.__main__ import main as birefnet
from birefnet_runtime.async_matting import AsyncMatting
from birefnet_runtime.batcher import Limits
from measuring.stub import stub_matting


def command_line(asked: dict[str, Any]) -> list[str]:
    """What would be typed for it: ``limits`` in seconds, as ``Limits`` has them."""
    limits = asked["limits"]
    line = ["serve", "--port", str(asked["port"]), "--seconds", str(asked["patience"])]
    line += ["--queue", str(limits["queue"]), "--max-wait", str(1000 * limits["wait"])]
    if limits["batch"] is not None:
        line += ["--max-batch", str(limits["batch"])]
    if asked["stub"] is None:
        line += ["--model", asked["model"], "--device", "cpu", "--threads", str(asked["threads"])]
    return line


def stand_in(stub: dict[str, Any]) -> None:
    """Let whatever opens a model get the stub."""

    def open_stub(*args: Any, limits: Limits | None = None, **how: Any) -> AsyncMatting:
        return AsyncMatting(stub_matting(**stub), limits)

    door: Any = AsyncMatting
    door.open = open_stub


def main() -> int:
    """Serve on the port of the request in argv until a signal."""
    asked = json.loads(sys.argv[1])
    if asked["stub"] is not None:
        stand_in(asked["stub"])
    return birefnet(command_line(asked))


if __name__ == "__main__":
    sys.exit(main())
