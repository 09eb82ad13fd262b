"""Locks on a folder, between processes; they end with the process that holds them."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from birefnet_runtime.errors import OutputError

# Longer than what a holder leaves in the file.
_TEXT = 200


class Lock:
    """Holds the file ``path``, which stays there afterwards, until ``release`` or the process ends.

    ``folder`` is what it stands for in errors. ``shared``: together with others that share it.
    OutputError where somebody else holds it, who is named as they left it in the file.
    """

    def __init__(self, path: Path, folder: Path, shared: bool = False) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(self._descriptor, shared)
        except OSError:
            holder = os.read(self._descriptor, _TEXT).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise OutputError(
                f"{folder} is in use by {holder or 'another batch'}: wait until it has ended, or "
                "choose another OUT"
            ) from None
        text = f"process {os.getpid()} on {socket.gethostname()}"
        os.write(self._descriptor, f"{text:<{_TEXT}}"[:_TEXT].encode()[:_TEXT])

    def release(self) -> None:
        """Let others have it."""
        os.close(self._descriptor)


if sys.platform == "win32":
    import msvcrt

    # Windows locks bytes: one beyond the text, which others must be able to read. It shares none.
    _PLACE = 1 << 20

    def _take(descriptor: int, shared: bool) -> None:
        if not shared:
            os.lseek(descriptor, _PLACE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _take(descriptor: int, shared: bool) -> None:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
