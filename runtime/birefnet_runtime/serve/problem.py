"""What went wrong with a request, as its client is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from birefnet_runtime.errors import (
    BirefnetError,
    BusyError,
    ClosedError,
    DeadlineError,
    DecodeError,
    InputError,
    OptionError,
    OutOfMemoryError,
    OutputError,
    TooLargeError,
    one_line,
)

# Status and what it means, by code. Clients go by the code; the message is for people.
CODES = {
    "bad_request": (400, "the request cannot be understood"),
    "bad_option": (400, "an option is not known, or has a value without meaning"),
    "unauthorized": (401, "a key is needed, or it is wrong"),
    "forbidden": (403, "the request comes from a page, or under a name, that is not let in"),
    "not_found": (404, "there is nothing under this path"),
    "method_not_allowed": (405, "the path is there, the method is not"),
    "slow_body": (408, "the body took too long to arrive"),
    "too_large": (413, "more bytes or pixels than the limit"),
    "not_a_picture": (415, "not a picture of a known format, or a damaged one"),
    "internal": (500, "a fault of the service; its log has the id"),
    "busy": (503, "too much to do; Retry-After says when to come again"),
    "not_ready": (503, "the model is being loaded, or the service is about to end"),
    "deadline": (504, "the answer was not there in time"),
}
# Seconds after which a client may ask again whether the service is ready.
SOON = 2


class Problem(Exception):
    """Ends a request with ``status``, ``code`` (of ``CODES``), ``message`` and ``headers``.

    ``message`` is one sentence that says what to do, and holds nothing of the machine.
    """

    def __init__(self, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = CODES[code][0]
        self.headers = dict(headers or {})


# Renders a problem as the clients of a route expect it: (problem, request id) -> response.
Dialect = Callable[[Problem, str], Response]


def plain(problem: Problem, call_id: str) -> Response:
    """The dialect of our own routes: ``{"error": {"code", "message", "id"}}``."""
    error = {"code": problem.code, "message": problem.message, "id": call_id}
    return JSONResponse({"error": error}, problem.status, problem.headers)


def as_problem(error: BaseException, max_pixels: int) -> Problem:
    """What the client is told of ``error``, which a route or the model raised."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, TooLargeError):
        return Problem(
            "too_large",
            f"The picture has more pixels than the {max_pixels} that are taken: scale it down.",
        )
    if isinstance(error, DecodeError):
        return Problem("not_a_picture", sentence(f"The picture {error.reason}"))
    if isinstance(error, InputError):
        return Problem("bad_request", sentence(error.reason))
    if isinstance(error, OptionError | OutputError):
        # It begins with the option's name, which is written small.
        return Problem("bad_option", f"{one_line(error)}.")
    if isinstance(error, BirefnetError):
        return _of_service(error)
    return internal()


def _of_service(error: BirefnetError) -> Problem:
    if isinstance(error, BusyError):
        return busy(error.retry_after)
    if isinstance(error, DeadlineError):
        return Problem("deadline", "The answer was not there in time: try again later.")
    if isinstance(error, ClosedError):
        return not_ready("The service is about to end: ask another one.")
    if isinstance(error, OutOfMemoryError):
        return busy(1.0)
    return internal()


def busy(retry_after: float) -> Problem:
    """Too much to do for ``retry_after`` seconds."""
    seconds = max(1, math.ceil(retry_after))
    message = f"Too many pictures are waiting: try again in {seconds} s."
    return Problem("busy", message, {"Retry-After": str(seconds)})


def not_ready(message: str) -> Problem:
    """The service does not cut out pictures now."""
    return Problem("not_ready", message, {"Retry-After": str(SOON)})


def internal() -> Problem:
    """A fault of ours, of which the client learns nothing but the id."""
    return Problem("internal", "Something went wrong here; the log has it under this id.")


def sentence(text: str) -> str:
    """``text`` with a capital letter and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def documented(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of an OpenAPI operation that may end with ``codes``, in plain dialect."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, meaning = CODES[code]
        entry = found.setdefault(status, {"description": "", "content": _CONTENT})
        entry["description"] += f"{'; ' if entry['description'] else ''}`{code}`: {meaning}"
        if status == 503:
            entry["headers"] = {
                "Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}
            }
    return found


_CONTENT = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["error"],
            "properties": {
                "error": {
                    "type": "object",
                    "required": ["code", "message", "id"],
                    "properties": {
                        "code": {"type": "string", "enum": sorted(CODES)},
                        "message": {"type": "string"},
                        "id": {"type": "string"},
                    },
                }
            },
        }
    }
}
