"""rembg as a contestant, with the very ONNX file that the others run.

rembg's own custom sessions take 320 or 1024 pixels only, so this gives its ``remove`` a session of
its own kind for the model's size: rembg's normalisation (Lanczos, divided by the picture's
maximum) with the model's mean and deviation, and the mask as all its BiRefNet sessions make it
(stretched to 0..255, 8 bit, Lanczos). Everything round the model is rembg's code, unchanged. Only
the standard library, rembg and what it brings are needed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measuring.line import Answer, serve

LIBRARIES = ("rembg", "onnxruntime", "numpy", "pillow", "pymatting", "numba")


class Marks:
    """Moments of one picture: ``steps`` are the seconds between them."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._last, self.steps = clock, 0.0, dict[str, float]()

    def begin(self) -> None:
        """Now."""
        self._last, self.steps = self._clock(), {}

    def end(self, step: str) -> None:
        """``step`` has just ended."""
        now = self._clock()
        self.steps[step], self._last = now - self._last, now

    def after(self, owner: Any, name: str, step: str) -> None:
        """Let ``step`` end whenever ``owner.name`` returns."""
        work = getattr(owner, name)

        def marked(*args: Any, **kwargs: Any) -> Any:
            result = work(*args, **kwargs)
            self.end(step)
            return result

        setattr(owner, name, marked)


def session_class(base: Any, model: dict[str, Any]) -> Any:
    """A session of rembg for one file, with the size and normalisation that it was made for."""
    np, image = import_module("numpy"), import_module("PIL.Image")

    class Session(base):  # type: ignore[misc]
        def predict(self, img: Any, *args: Any, **kwargs: Any) -> list[Any]:
            feed = self.normalize(
                img, model["mean"], model["std"], (model["width"], model["height"])
            )
            values = self.inner_session.run(None, feed)[0].reshape(model["height"], model["width"])
            if model["activation"] == "sigmoid":
                values = 1 / (1 + np.exp(-values))
            low, high = values.min(), values.max()
            mask = image.fromarray(((values - low) / (high - low) * 255).astype("uint8"))
            return [mask.resize(img.size, image.Resampling.LANCZOS)]

        @classmethod
        def download_models(cls, *args: Any, **kwargs: Any) -> str:
            return str(model["path"])

        @classmethod
        def name(cls, *args: Any, **kwargs: Any) -> str:
            return "bench"

    return Session


class Run:
    """ONNX Runtime's session, whose end of a run is marked."""

    def __init__(self, session: Any, marks: Marks) -> None:
        self._session, self._marks = session, marks
        self.get_inputs = session.get_inputs

    def run(self, *args: Any) -> Any:
        result = self._session.run(*args)
        self._marks.end("model")
        return result


class Rembg:
    """rembg with one session; ``decontaminate`` is its ``-dc``."""

    def open(self, request: dict[str, Any]) -> Answer:
        """Import rembg and load the file; the seconds of both, and versions."""
        start = time.perf_counter()
        self._bg = import_module("rembg.bg")
        base = import_module("rembg.sessions.base").BaseSession
        options = import_module("onnxruntime").SessionOptions()
        options.intra_op_num_threads = request["threads"]
        kind = session_class(base, request["contract"])
        self._session = kind("bench", options, providers=["CPUExecutionProvider"])
        seconds = time.perf_counter() - start
        self._decontaminate = bool(request.get("decontaminate"))
        self._mark()
        found = {f"rembg's {name}": version(name) for name in LIBRARIES[1:]}
        found["rembg"] = version("rembg")
        about = f"rembg {found['rembg']}{' -dc' * self._decontaminate}"
        return {"seconds": seconds, "about": about, "libraries": found}

    def _mark(self) -> None:
        """Steps end where rembg's own functions do; its orientation of the picture decodes it."""
        self._marks = Marks()
        self._marks.after(self._bg, "fix_image_orientation", "decode")
        self._marks.after(self._session, "normalize", "preprocess")
        self._marks.after(self._bg, "get_concat_v_multi", "refine")
        self._session.inner_session = Run(self._session.inner_session, self._marks)

    def cut(self, request: dict[str, Any]) -> Answer:
        """Seconds from the bytes of ``path`` to PNG bytes, by step; ``keep``: a file to write."""
        data = Path(request["path"]).read_bytes()
        start = time.perf_counter()
        self._marks.begin()
        png = self._remove(data)
        self._marks.end("encode")
        seconds = time.perf_counter() - start
        if request.get("keep"):
            Path(request["keep"]).write_bytes(png)
        return {"seconds": seconds, "steps": self._marks.steps, "bytes": len(png)}

    def _remove(self, data: bytes) -> bytes:
        result: bytes = self._bg.remove(
            data, session=self._session, decontaminate=self._decontaminate
        )
        return result

    def stream(self, request: dict[str, Any]) -> Answer:
        """Seconds for all of ``paths``, one after the other as its folder command does, saved to
        the folder ``out``."""
        out, paths = Path(request["out"]), request["paths"]
        start = time.perf_counter()
        for number, path in enumerate(paths):
            (out / f"{number}.png").write_bytes(self._remove(Path(path).read_bytes()))
        return {"seconds": time.perf_counter() - start, "count": len(paths)}


def main() -> int:
    """Serve until stdin ends."""
    rembg = Rembg()
    return serve({"open": rembg.open, "cut": rembg.cut, "stream": rembg.stream})


if __name__ == "__main__":
    sys.exit(main())
