"""Compiled kernels for this GPU, from the plans of a model folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from birefnet_engine import manifest as manifests
from birefnet_engine.manifest import Manifest, ManifestError
from birefnet_runtime.errors import DamagedPlanError, NoPlanError

FOLDER = Path(__file__).parent / "kernels"


def digest(folder: Path = FOLDER) -> str:
    """Hex sha256 of the kernels' sources in this runtime, as ``Manifest.kernels_source`` has it."""
    files = (path for path in folder.iterdir() if path.suffix in (".cu", ".h"))
    return manifests.kernels_digest({path.name: path.read_bytes() for path in files})


def of_plan(manifest: Manifest, folder: Path) -> bytes:
    """The cubin that was compiled with a plan.

    Raises DamagedPlanError, or NoPlanError where it was compiled from other sources than this
    runtime's, whose launches it would not fit.
    """
    if manifest.kernels_source != digest():
        raise NoPlanError(
            f"the kernels of {manifest.key} belong to another version of birefnet-trt: "
            f"birefnet-build {folder}"
        )
    return _read(manifest, folder, manifest.cubin)


def find(folder: Path, gpu: str, capability: tuple[int, int]) -> bytes:
    """Kernels for the GPU: a cubin made for it, else PTX of any plan in ``folder``, which the
    driver compiles when it is loaded.

    Raises NoPlanError where there is none, DamagedPlanError where it cannot be trusted.
    """
    current = digest()
    try:
        built = manifests.find(folder)
    except ManifestError as error:
        raise DamagedPlanError(str(error)) from error
    usable = [one for one in built if one.kernels_source == current]
    for manifest, name in _candidates(usable, gpu, capability):
        if name in manifest.kernels:
            return _read(manifest, folder, name)
    raise NoPlanError(f"{folder} holds no kernels for this GPU: birefnet-build {folder}")


def _candidates(
    usable: list[Manifest], gpu: str, capability: tuple[int, int]
) -> Iterator[tuple[Manifest, str]]:
    yield from (
        (one, one.cubin) for one in usable if (one.gpu, one.capability) == (gpu, capability)
    )
    yield from ((one, one.cubin) for one in usable if one.capability == capability)
    yield from ((one, one.ptx) for one in usable)


def _read(manifest: Manifest, folder: Path, name: str) -> bytes:
    try:
        return manifests.verify(manifest, folder, name).read_bytes()
    except ManifestError as error:
        raise DamagedPlanError(str(error)) from error
