"""Why something cannot be compared here."""

from __future__ import annotations

from birefnet_export.contract import BirefnetError


class Unavailable(BirefnetError):
    """An executor, a batch or a stage that this machine or this model does not have."""
