"""``engines/`` in a model folder: private, complete or absent, never half-written."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import manifest as manifests
from .errors import EngineError
from .lock import locked
from .manifest import ENGINES, Manifest

_LOCK = ".build.lock"
_DRAFT = ".draft-"


@dataclass(frozen=True)
class Store:
    """``engines/`` of the model ``folder``, held by one builder."""

    folder: Path

    @property
    def engines(self) -> Path:
        """The folder of plans."""
        return self.folder / ENGINES

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A private folder in ``engines/`` that is gone afterwards, whatever happens."""
        path = Path(tempfile.mkdtemp(dir=self.engines, prefix=_DRAFT))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def publish(self, manifest: Manifest, draft: Path) -> None:
        """Move what lies in ``draft`` into place and write its manifest.

        The old manifest goes first and the new one comes last: a reader finds a whole plan or
        none.
        """
        self._path(manifest.key, "json").unlink(missing_ok=True)
        for path in draft.iterdir():
            path.replace(self.engines / path.name)
        manifest.write(self.folder)

    def delete(self, key: str) -> None:
        """Remove a plan with all its files, its manifest first."""
        for suffix in ("json", "plan", "cubin", "ptx"):
            self._path(key, suffix).unlink(missing_ok=True)

    def read(self, key: str) -> Manifest | None:
        """The manifest of ``key``, or None where there is none; ManifestError when it is bad."""
        path = self._path(key, "json")
        return manifests.read(path) if path.exists() else None

    def _path(self, key: str, suffix: str) -> Path:
        return self.engines / f"{key}.{suffix}"


@contextmanager
def hold(folder: Path) -> Iterator[Store]:
    """The ``engines/`` of ``folder``, made where it is missing and locked against other builders.

    Raises ManifestError when others can write in it, BusyError when somebody else builds there.
    """
    engines = folder / ENGINES
    try:
        engines.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise EngineError(
            f"{engines} cannot be made ({error.strerror}): use a model folder of your own"
        ) from error
    manifests.check_private(folder)
    with locked(engines / _LOCK, wait=False):
        # What a killed builder left behind.
        for path in engines.glob(f"{_DRAFT}*"):
            shutil.rmtree(path, ignore_errors=True)
        yield Store(folder)


def write(path: Path, data: Any) -> None:
    """Write a buffer to a new file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_bytes(data)
