"""The client, in a process of its own: it sends what it is told to and says how long that took."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from measuring.line import Answer, serve
from measuring.serving.load import Target, closed, paced
from measuring.serving.wire import Connection, Form


class Client:
    """Sends pictures to one server at a time; every request names it."""

    def __init__(self) -> None:
        self._pictures: list[bytes] = []

    def open(self, request: dict[str, Any]) -> Answer:
        """Read the files ``pictures``."""
        self._pictures = [Path(path).read_bytes() for path in request["pictures"]]
        return {"bytes": [len(picture) for picture in self._pictures]}

    def _requests(self, request: dict[str, Any]) -> list[bytes]:
        form = Form(request["path"], request["part"], request["fields"])
        picked = [self._pictures[number] for number in request.get("picked", [0])]
        return [form.request(request["host"], request["port"], picture) for picture in picked]

    def _target(self, request: dict[str, Any]) -> Target:
        return Target(request["host"], request["port"], self._requests(request))

    def once(self, request: dict[str, Any]) -> Answer:
        """The status of one request; its body goes to the file ``keep``."""

        async def ask() -> Answer:
            connection = Connection(request["host"], request["port"])
            reply = await connection.ask(self._requests(request)[0])
            connection.close()
            Path(request["keep"]).write_bytes(reply.body)
            return {"status": reply.status}

        return asyncio.run(ask())

    def closed(self, request: dict[str, Any]) -> Answer:
        """See ``load.closed``."""
        load = closed(self._target(request), request["connections"], request["count"])
        return asyncio.run(load).as_answer()

    def paced(self, request: dict[str, Any]) -> Answer:
        """See ``load.paced``."""
        load = paced(self._target(request), request["arrivals"], request["skip"])
        return asyncio.run(load).as_answer()


def main() -> int:
    """Serve until stdin ends."""
    client = Client()
    return serve(
        {
            "open": client.open,
            "once": client.once,
            "closed": client.closed,
            "paced": client.paced,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
