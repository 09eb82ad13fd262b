"""Everything that must be seen on an NVIDIA GPU: ``make gpu``, or ``bench/gpu.py STAGE``.

    device      driver, clocks, TensorRT with a network of one layer, copy and matrix product rates
    kernels     every CUDA kernel against its twin, bit for bit; needs no TensorRT
    swin_v1_t   export, build, proof and latency, FP16 at 1024
    swin_v1_l   the same; --detach starts the build and returns
    pytorch     PyTorch and ONNX Runtime on the same network beside it
    stream      Matting.stream() over pictures of mixed sizes

Several stages run in processes of their own, so that one that fails takes no other along. Ends with
0, with 1 and the list of what failed, or with 130 after Ctrl-C. Runs on Python 3.10.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gpu_stages.options import ROOMS, ROOT, parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stages that were asked for; the exit status."""
    options = parse(argv)
    # The rooms of this clone, whatever is installed: the record names its commit.
    sys.path[:0] = [path for room in ROOMS if (path := str(ROOT / room)) not in sys.path]
    try:
        from gpu_stages import runner
    except ModuleNotFoundError as error:
        print(
            f"gpu: {error.name} is not installed: pip install 'birefnet-trt[tensorrt-cu12]' (or "
            "-cu13, by the CUDA that nvidia-smi shows)",
            file=sys.stderr,
        )
        return 1
    return runner.run(options)


if __name__ == "__main__":
    sys.exit(main())
