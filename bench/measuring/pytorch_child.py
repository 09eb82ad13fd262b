"""PyTorch as a contestant: the network itself, with the steps that the models' own cards show.

Pillow decodes, resizes to the square, sizes the 8-bit mask up again (bicubic) and writes the PNG at
its default level. Deformable convolutions are torchvision's where it imports, attention is
torch.nn.functional.scaled_dot_product_attention.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from measuring.line import Answer, serve

ROOT = Path(__file__).resolve().parents[2]


class PyTorch:
    """One network as ``kind`` runs it: ``fp32``, ``fp16``, or ``compile``, which is half and
    max-autotune on CUDA and float32 in the default mode on a CPU."""

    def open(self, request: dict[str, Any]) -> Answer:
        """Import PyTorch and load the weights; the seconds of both, and what runs."""
        start = time.perf_counter()
        import torch

        sys.path.append(str(ROOT / "tests"))
        from gpu_stages import torch_child

        torch.set_num_threads(request["threads"])
        cuda = torch.cuda.is_available()
        kind = request["kind"]
        if kind == "fp16" and not cuda:
            raise RuntimeError("half precision has no fast path on a CPU; PyTorch sees no CUDA")
        if kind == "compile" and not cuda and not request["compiled"]:
            raise RuntimeError("for a CPU it compiles for minutes: --compile to wait for it")
        self._torch, self._child, self._contract = torch, torch_child, request["contract"]
        self._device = "cuda" if cuda else "cpu"
        self._half = cuda and kind != "fp32"
        torch.backends.cudnn.benchmark = True
        # Float32 is float32 here: TF32 keeps 11 of its 24 bits.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch_child.sample(torch_child.plain)
        network = self._load(request["weights"], request["patch_order"], request["contract"])
        network = network.to(self._device)
        self._network: Callable[[Any], Any] = network.half() if self._half else network
        if kind == "compile":
            mode = "max-autotune" if cuda else "default"
            self._network = torch.compile(network, mode=mode)
        return {
            "seconds": time.perf_counter() - start,
            "about": self._about(kind),
            "libraries": {"torch": str(torch.__version__)},
        }

    def _load(self, weights: str, order: str, fields: dict[str, Any]) -> Any:
        from birefnet_export import checkpoint
        from birefnet_export.config import BACKBONES
        from birefnet_export.mirror import answering

        if weights in BACKBONES:
            network = self._child.load(weights)
        else:
            network = checkpoint.load(weights, order).network.eval().requires_grad_(False)
        return answering(network, fields["mirror"])

    def _about(self, kind: str) -> str:
        where = self._torch.cuda.get_device_name() if self._device == "cuda" else "CPU"
        kernels = "torchvision's" if self._child.torchvision_op else "this project's"
        compiled = ", compiled" * (kind == "compile")
        precision = "half" if self._half else "float32"
        return (
            f"PyTorch {self._torch.__version__}, {precision}{compiled} on {where}, {kernels} "
            "deform_conv2d, SDPA"
        )

    def _no_grad(self) -> AbstractContextManager[Any]:
        # torch.compile does not take inference tensors everywhere.
        context: AbstractContextManager[Any] = self._torch.no_grad()
        return context

    def cut(self, request: dict[str, Any]) -> Answer:
        """Seconds from the bytes of ``path`` to PNG bytes, by step; ``keep``: a file to write."""
        data = Path(request["path"]).read_bytes()
        moments = [time.perf_counter()]
        png = self._cut(data, lambda: moments.append(time.perf_counter()))
        if request.get("keep"):
            Path(request["keep"]).write_bytes(png)
        names = ("decode", "preprocess", "model", "refine", "encode")
        pairs = zip(names, moments[:-1], moments[1:], strict=True)
        steps = {name: after - before for name, before, after in pairs}
        return {"seconds": moments[-1] - moments[0], "steps": steps, "bytes": len(png)}

    def _cut(self, data: bytes, mark: Callable[[], None]) -> bytes:
        """PNG bytes; ``mark`` is called after each step. Copies to and from a GPU are the
        model's."""
        from PIL import Image

        contract = self._contract
        image = Image.open(io.BytesIO(data)).convert("RGB")
        mark()
        small = image.resize((contract["width"], contract["height"]), Image.Resampling.BILINEAR)
        tensor = self._normalise(small)
        mark()
        with self._no_grad():
            logits = self._network(tensor.to(self._device, self._dtype))
            alpha = logits[0, 0].float().sigmoid().cpu().numpy()
        mark()
        mask = Image.fromarray((alpha * 255).astype("uint8"))
        image.putalpha(mask.resize(image.size, Image.Resampling.BICUBIC))
        mark()
        stream = io.BytesIO()
        image.save(stream, "PNG")
        mark()
        return stream.getvalue()

    @property
    def _dtype(self) -> Any:
        return self._torch.float16 if self._half else self._torch.float32

    def _normalise(self, small: Any) -> Any:
        """float32 [1,3,h,w] of a Pillow picture."""
        import numpy as np

        torch, contract = self._torch, self._contract
        pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1).float().div_(255)
        mean, std = (torch.tensor(contract[key])[:, None, None] for key in ("mean", "std"))
        return ((pixels - mean) / std)[None].contiguous()

    def forward(self, request: dict[str, Any]) -> Answer:
        """Seconds of the network on ``batch`` random pictures that lie on its device; on CUDA by
        events too."""
        contract = self._contract
        shape = (request["batch"], 3, contract["height"], contract["width"])
        x = self._torch.rand(shape, device=self._device, dtype=self._dtype)
        with self._no_grad():
            times = self._child.measure(lambda: self._network(x), self._device, 0, 1)
        return {"seconds": times["wall"][0], "gpu": times["gpu"][0] if times["gpu"] else None}

    def stream(self, request: dict[str, Any]) -> Answer:
        """Seconds for all of ``paths``, one after the other, saved to the folder ``out``."""
        out, paths = Path(request["out"]), request["paths"]
        start = time.perf_counter()
        for number, path in enumerate(paths):
            png = self._cut(Path(path).read_bytes(), lambda: None)
            (out / f"{number}.png").write_bytes(png)
        return {"seconds": time.perf_counter() - start, "count": len(paths)}

    def rates(self, request: dict[str, Any]) -> Answer:
        """What this GPU can do at most: FP16 products in FLOP/s, copies in bytes/s (on it, to it
        and from it, page-locked)."""
        torch, measure = self._torch, self._child.measure
        if self._device != "cuda":
            raise RuntimeError("PyTorch sees no CUDA device")
        side, size = 8192, 256 << 20
        a, b = (torch.randn(side, side, device="cuda").half() for _ in range(2))
        host = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        first, second = (torch.empty(size, dtype=torch.uint8, device="cuda") for _ in range(2))
        works = {
            "FP16 products": (lambda: torch.mm(a, b), 2 * side**3),
            "copy on the GPU": (lambda: second.copy_(first), 2 * size),
            "copy to the GPU": (lambda: first.copy_(host), size),
            "copy from the GPU": (lambda: host.copy_(first), size),
        }
        found: Answer = {}
        for name, (work, amount) in works.items():
            found[name] = [amount / seconds for seconds in measure(work, "cuda", 5, 20)["gpu"]]
        return found


def main() -> int:
    """Serve until stdin ends."""
    pytorch = PyTorch()
    return serve(
        {
            "open": pytorch.open,
            "cut": pytorch.cut,
            "forward": pytorch.forward,
            "stream": pytorch.stream,
            "rates": pytorch.rates,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
