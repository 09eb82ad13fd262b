"""LitServe as a contestant: the runtime's own steps round the same stub, so that only what serves
them differs. Decoding is its ``decode_request``, resize, run and refinement its ``predict``, PNG
its ``encode_response``.

No ``from __future__ import annotations``: LitServe reads the types of its methods when it starts.
"""

import json
import sys
from importlib import import_module
from typing import Annotated, Any

from fastapi import File
from starlette.responses import Response

from birefnet_runtime.errors import BirefnetError
from birefnet_runtime.options import Options
from measuring.stub import stub_matting

litserve: Any = import_module("litserve")
# What Options gives the other contestants: the picture's own colours.
OPTIONS = Options(foreground="off")


class Cut(litserve.LitAPI):  # type: ignore[misc]
    """One picture a run. Opened once in each worker process."""

    def __init__(self, asked: dict[str, Any], **batching: Any) -> None:
        super().__init__(api_path="/cut", **batching)
        self._asked = asked

    def setup(self, device: str) -> None:
        """Make the stub, whose turns the workers share."""
        self._matting = stub_matting(**self._asked["stub"], turn=self._asked["turn"])
        self._pipeline = self._matting.pipeline

    def decode_request(self, request: Annotated[bytes, File()]) -> Any:
        """Pixels, ready for a run."""
        return self._pipeline.open(request, OPTIONS)

    def predict(self, inputs: Any) -> Any:
        """The cut-out of one picture."""
        return self._run([inputs])[0]

    def _run(self, group: list[Any]) -> list[Any]:
        found = self._pipeline.compute(group, OPTIONS, patient=True)
        for one in found:
            if isinstance(one, BirefnetError):
                raise one
        return list(found)

    def encode_response(self, output: Any) -> Response:
        """PNG."""
        return Response(output.encode(".png"), media_type="image/png")


class CutMany(Cut):
    """As many pictures a run as the stub has rows."""

    def __init__(self, asked: dict[str, Any]) -> None:
        rows, wait = asked["stub"]["batch"], asked["limits"]["wait"]
        super().__init__(asked, max_batch_size=rows, batch_timeout=wait)

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Pictures differ in size: a list, and no array."""
        return inputs

    def predict(self, inputs: list[Any]) -> list[Any]:
        """The cut-outs of a run."""
        return self._run(inputs)

    def unbatch(self, output: list[Any]) -> list[Any]:
        """A list already."""
        return output


def main() -> int:
    """Serve on the port of the request in argv until a signal."""
    asked = json.loads(sys.argv[1])
    server = litserve.LitServer(
        CutMany(asked) if asked["stub"]["batch"] > 1 else Cut(asked),
        accelerator="cpu",
        workers_per_device=asked["workers"],
        timeout=asked["patience"],
    )
    server.run(
        host="127.0.0.1",
        port=asked["port"],
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
