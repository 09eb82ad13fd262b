"""What vouches for a plan: one JSON file beside it, and the checks before a plan is loaded.

Standard library and Python 3.10 only: the runtime imports this file.

A TensorRT plan is executable code. It is loaded only from a folder that nobody else can write, and
only with the bytes that its manifest names.

    MODEL/engines/KEY.plan  KEY.json (manifest)  KEY.cubin  KEY.ptx

    BirefnetError                 root, from the contract
    └── ManifestError             a manifest or a file that it vouches for cannot be trusted
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from birefnet_export.contract import PRECISIONS, BirefnetError, sha256, write_atomically

ENGINES = "engines"
# What nvcc and NVRTC are told. Products and sums are rounded by the sources' own intrinsics, so
# that nothing here decides a pixel.
KERNEL_FLAGS = ("--std=c++17",)
SCHEMA = 1
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_REBUILD = "build it again with birefnet-build"


class ManifestError(BirefnetError):
    """A manifest, or a file that it vouches for, is missing, damaged or open to others."""


def slug(text: str) -> str:
    """``text`` in lower case with ``-`` for whatever is neither a letter, a digit nor a dot."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "unknown"


def kernels_digest(files: Mapping[str, bytes]) -> str:
    """Hex sha256 over the CUDA sources (every name, length and content) and the compilers' flags.

    The builder puts it into the manifest, the runtime compares it with the sources it has.
    """
    whole = hashlib.sha256(" ".join(KERNEL_FLAGS).encode())
    for name, data in sorted(files.items()):
        whole.update(f"\n{name} {len(data)}\n".encode())
        whole.update(data)
    return whole.hexdigest()


def key(tensorrt: str, gpu: str, capability: tuple[int, int], precision: str, batch: int) -> str:
    """Name of a plan's files, such as ``trt8.6.0-nvidia-h200-sm90-fp16-b1``.

    ``gpu`` is the driver's name of the device, ``capability`` its (major, minor).
    """
    major, minor = capability
    return f"trt{slug(tensorrt)}-{slug(gpu)}-sm{major}{minor}-{precision}-b{batch}"


@dataclass(frozen=True)
class Manifest:
    """One plan: what it was built from, where it runs, and the bytes it must have.

    ``tensorrt``, ``gpu`` and ``capability`` are those of the machine that built it; a plan runs
    nowhere else. ``batch`` is the fixed leading dimension. ``onnx`` is a file name in the model
    folder and ``onnx_data`` its files of external data, name to sha256. ``kernels`` maps
    ``KEY.cubin`` and ``KEY.ptx`` to sha256, ``kernels_source`` is the sha256 of what they were
    compiled from. ``seconds`` is what the builder took. ``parity`` holds the figures of the proof,
    ``layers`` the summary of the inspection.
    """

    key: str
    tensorrt: str
    gpu: str
    capability: tuple[int, int]
    precision: str
    batch: int
    onnx: str
    onnx_sha256: str
    contract_sha256: str
    plan_sha256: str
    plan_bytes: int
    kernels: dict[str, str]
    kernels_source: str
    options: dict[str, Any]
    seconds: float
    parity: dict[str, Any]
    layers: dict[str, Any]
    versions: dict[str, str]
    onnx_data: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ManifestError(f"manifest schema {self.schema} is not {SCHEMA}: {_REBUILD}")
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ManifestError(f"manifest {name} is {value!r}: {_REBUILD}")
        if len(self.capability) != 2 or not all(isinstance(part, int) for part in self.capability):
            raise ManifestError(f"manifest capability is {self.capability!r}: {_REBUILD}")
        if self.precision not in PRECISIONS or self.batch < 1:
            raise ManifestError(
                f"manifest says precision {self.precision!r}, batch {self.batch}: {_REBUILD}"
            )
        expected = key(self.tensorrt, self.gpu, self.capability, self.precision, self.batch)
        if self.key != expected:
            raise ManifestError(f"manifest key {self.key!r} contradicts its own fields: {_REBUILD}")
        for name in self.kernels:
            if name not in (f"{self.key}.cubin", f"{self.key}.ptx"):
                raise ManifestError(f"manifest lists the foreign kernel file {name!r}: {_REBUILD}")

    @property
    def plan(self) -> str:
        """File name of the plan in ``engines/``."""
        return f"{self.key}.plan"

    @property
    def cubin(self) -> str:
        """File name of the kernels for this GPU in ``engines/``."""
        return f"{self.key}.cubin"

    @property
    def ptx(self) -> str:
        """File name of the kernels for any later GPU in ``engines/``."""
        return f"{self.key}.ptx"

    def fits(self, files: Mapping[str, str]) -> bool:
        """Whether the plan was built from ``files``, a contract's file names and sha256."""
        data = {name: value for name, value in files.items() if name.startswith(f"{self.onnx}.")}
        return files.get(self.onnx) == self.onnx_sha256 and data == self.onnx_data

    def to_json(self) -> str:
        """The manifest as indented JSON text with a final newline."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    def write(self, folder: Path) -> Path:
        """Write ``engines/KEY.json`` in the model ``folder`` atomically, mode 0600; its path."""
        path = folder / ENGINES / f"{self.key}.json"
        write_atomically(path, self.to_json().encode())
        path.chmod(0o600)
        return path


_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("key", "tensorrt", "gpu", "precision", "onnx", "onnx_sha256"), str),
    **dict.fromkeys(("contract_sha256", "plan_sha256", "kernels_source"), str),
    **dict.fromkeys(("batch", "plan_bytes"), int),
    **dict.fromkeys(("kernels", "options", "parity", "layers", "versions", "onnx_data"), dict),
    "capability": tuple,
    "seconds": (int, float),
}


def read(path: Path) -> Manifest:
    """The manifest in the file ``path``.

    Raises ManifestError when it is missing, is no manifest, or carries another plan's name.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(f"{path} is missing: {_REBUILD}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ManifestError(f"{path} is not readable as JSON ({error}): {_REBUILD}") from error
    if not isinstance(data, dict):
        raise ManifestError(f"{path} holds no JSON object: {_REBUILD}")
    manifest = _parse(data, path)
    if path.stem != manifest.key:
        raise ManifestError(f"{path} is the manifest of {manifest.key}: {_REBUILD}")
    return manifest


def _parse(data: dict[str, Any], path: Path) -> Manifest:
    unknown = sorted(set(data) - {item.name for item in fields(Manifest)})
    if unknown:
        raise ManifestError(f"{path} has unknown fields {', '.join(unknown)}: {_REBUILD}")
    capability = data.get("capability")
    values = {**data, "capability": tuple(capability) if isinstance(capability, list) else None}
    try:
        return Manifest(**values)
    except TypeError as error:
        raise ManifestError(f"{path} is incomplete ({error}): {_REBUILD}") from error
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None


def find(folder: Path) -> list[Manifest]:
    """Every manifest in the model ``folder``, smallest batch first; [] where nothing was built.

    Nothing but the manifests themselves is looked at: ``verify`` comes before a plan is loaded.
    Raises ManifestError for one that is unreadable.
    """
    engines = folder / ENGINES
    found = [read(path) for path in engines.glob("*.json") if not path.name.startswith(".")]
    return sorted(found, key=lambda manifest: (manifest.batch, manifest.key))


def verify(manifest: Manifest, folder: Path, name: str | None = None) -> Path:
    """Path of the plan, or of the kernel file ``name``, fit to be loaded.

    ``folder`` is the model folder. Raises ManifestError when ``engines/`` or the file can be
    written by others, or when the file is missing, not listed, or has other bytes.
    """
    check_private(folder)
    name = name or manifest.plan
    expected = {**manifest.kernels, manifest.plan: manifest.plan_sha256}.get(name)
    if expected is None:
        raise ManifestError(f"the manifest {manifest.key} lists no {name}: {_REBUILD}")
    path = folder / ENGINES / name
    if not path.is_file():
        raise ManifestError(f"{path} is missing although its manifest is there: {_REBUILD}")
    _check_owner(path)
    found = sha256(path)
    if found != expected:
        raise ManifestError(
            f"{path} has sha256 {found[:12]}, its manifest says {expected[:12]}: "
            f"the file is damaged or was replaced; {_REBUILD}"
        )
    return path


def check_private(folder: Path) -> None:
    """See that ``engines/`` in the model ``folder`` is ours (or root's) and closed to others.

    A plan is executable code, so whoever can write there can run code as us. Raises ManifestError
    with the command that mends it.
    """
    if os.name != "posix":
        raise ManifestError("TensorRT plans are trusted by file owner and mode: use Linux")
    engines = folder / ENGINES
    if not engines.is_dir():
        raise ManifestError(f"{engines} is no folder: {_REBUILD}")
    _check_owner(engines)


def _check_owner(path: Path) -> None:
    """Raise ManifestError unless ``path`` is ours or root's and only its owner can write it."""
    found = path.stat()
    if found.st_uid not in (0, os.geteuid()):
        raise ManifestError(
            f"{path} belongs to user {found.st_uid} and a plan is executable code: "
            f"delete {path} and {_REBUILD}"
        )
    if found.st_mode & _OTHERS_MAY_WRITE:
        raise ManifestError(
            f"{path} can be written by others and a plan is executable code: "
            f"delete its files unless you trust who did, then chmod go-w {path}"
        )
