"""What a service may be told when it starts."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from birefnet_runtime.errors import OptionError
from birefnet_runtime.options import MAX_PIXELS

MEBI = 1 << 20
# A header field can hold them, and no shell or file splits them.
_KEY_SIGNS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/=:!#$%&*@^|"
)


@dataclass(frozen=True)
class Settings:
    """What a service may be told when it starts; OptionError where a value has no meaning.

    ``host`` and ``port``: where it listens; port 0 takes a free one. ``keys``: a request needs one
    of them; none: every request is served, which off loopback wants ``open``. ``origins``: pages of
    these origins may use it from a browser. ``hosts``: further names under which it is asked; on
    loopback only its own names are, so that no page can reach it by a name that it points there.

    ``max_body``: bytes of one request. ``max_pixels``: of one picture, by its header. ``memory``:
    bytes of all bodies held at once. ``header_seconds``, ``body_seconds``: within which a request's
    head and body must arrive; ``seconds``: within which it must be answered, from its head on.
    ``fetch``: pictures may be named by URL. ``page``: the page and the description are served.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = ()
    open: bool = False
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    max_body: int = 25 * MEBI
    max_pixels: int = 64_000_000
    memory: int = 1024 * MEBI
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    seconds: float = 60.0
    fetch: bool = False
    page: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise OptionError(f"port must be from 0 to 65535, not {self.port}")
        if not 1 <= self.max_pixels <= MAX_PIXELS:
            raise OptionError(f"max_pixels must be from 1 to {MAX_PIXELS}, not {self.max_pixels}")
        if not 1 <= self.max_body <= self.memory:
            raise OptionError(
                f"max_body must be from 1 to the {self.memory} bytes of memory, not {self.max_body}"
            )
        for name in ("header_seconds", "body_seconds", "seconds"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} must be more than 0, not {getattr(self, name)}")
        self._check_names()

    def _check_names(self) -> None:
        for number, key in enumerate(self.keys, 1):
            if not key or not _KEY_SIGNS.issuperset(key):
                raise OptionError(
                    f"key {number} must have letters, digits and -._~+/=:!#$%&*@^| alone"
                )
        for origin in self.origins:
            scheme, _, rest = origin.partition("://")
            if scheme not in ("http", "https") or not rest or set(rest) & set("/*?# "):
                raise OptionError(
                    f"origin {origin!r} must be a scheme and a host, such as https://example.org"
                )

    @property
    def local(self) -> bool:
        """Whether it listens on loopback alone."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def check_access(self) -> None:
        """OptionError where others than this machine could use the service without a key."""
        if not (self.local or self.keys or self.open):
            raise OptionError(
                f"anybody who reaches {self.host} could use it: give keys (--key-file, or "
                "BIREFNET_API_KEYS in the environment), or say --no-key"
            )
