"""Fingerprints of what a result depends on: the model and the options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from birefnet_export.contract import FILE_NAME
from birefnet_runtime import model as models
from birefnet_runtime.bulk.tasks import digest
from birefnet_runtime.errors import InputError
from birefnet_runtime.options import Options

# Arguments of ``Matting.open`` that decide a bare file's answers. A device does not: its alpha is
# the same within the project's tolerances.
_DECIDING = ("mean", "std", "size", "activation", "output")
# Options that decide whether there is a result, never which.
_WITHOUT_EFFECT = ("max_pixels",)


@dataclass(frozen=True)
class Marks:
    """``model``: its name and fingerprint, ``options``: a fingerprint; 16 hexadecimal digits."""

    model: str
    options: str

    @classmethod
    def of(cls, opening: Mapping[str, Any], options: Options) -> Marks:
        """For the arguments of ``Matting.open`` and the options of a run.

        Raises ModelError where there is no such model, InputError where a background's picture
        cannot be read.
        """
        return cls(_model(opening), _options(options))


def _model(opening: Mapping[str, Any]) -> str:
    """By the contract, which lists the sha256 of each file; or by the bare file itself."""
    path = Path(opening["model"])
    folder = models.folder_of(path)
    if folder is not None:
        contract = folder / FILE_NAME
        parts = [contract.read_bytes() if contract.is_file() else b""]
    else:
        given = sorted((name, opening[name]) for name in _DECIDING if name in opening)
        sidecar = path.with_name(path.stem + ".contract.json")
        parts = [digest(path).encode(), repr(given).encode()]
        parts.append(sidecar.read_bytes() if sidecar.is_file() else b"")
    return f"{path.resolve().name} {_fingerprint(parts)}"


def _options(options: Options) -> str:
    """By every value, and for a background's picture by its bytes."""
    values = {item.name: getattr(options, item.name) for item in fields(options)}
    picture = options.backdrop
    if isinstance(picture, Path):
        try:
            values["background"] = digest(picture)
        except OSError as error:
            raise InputError(str(picture), f"cannot be read: {error.strerror}") from error
    for name in _WITHOUT_EFFECT:
        del values[name]
    return _fingerprint([repr(sorted(values.items())).encode()])


def _fingerprint(parts: Iterable[bytes]) -> str:
    whole = sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()[:16]
