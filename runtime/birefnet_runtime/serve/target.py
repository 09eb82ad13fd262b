"""A URL that may be asked for: how a stranger's text becomes one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from birefnet_runtime.errors import FetchError

PORTS = {"http": 80, "https": 443}
# Signs; what browsers and servers take.
_LONGEST = 2048
# Signs that stay as they are in a path or query: RFC 3986's, and % since the rest is encoded.
_PLAIN = "/%:=&?~+!$,;'@()*"


@dataclass(frozen=True)
class Target:
    """``path``, with its query, at ``host`` and ``port``, by TLS where ``secure``."""

    url: str
    secure: bool
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str, ports: Collection[int]) -> Target:
        """What ``url`` names; FetchError where it is not http or https, has a name or password, or
        a port that is not among ``ports``."""
        parts = _split(url)
        default = PORTS[parts.scheme]
        port = default if parts.port is None else parts.port
        if port not in ports:
            raise refusal(f"the URL's port must be one of {', '.join(map(str, sorted(ports)))}")
        path = quote(parts.path or "/", safe=_PLAIN)
        if parts.query:
            path += "?" + quote(parts.query, safe=_PLAIN)
        return cls(url, parts.scheme == "https", parts.hostname or "", port, path)

    def follow(self, url: str, ports: Collection[int]) -> Target:
        """What the answer of this one leads to; ``url`` may be relative. FetchError as for ``of``,
        and where it leads from https to http."""
        try:
            joined = urljoin(self.url, url)
        except ValueError:
            raise _not_understood() from None
        target = Target.of(joined, ports)
        if self.secure and not target.secure:
            raise refusal("the URL leads from https to http: give one that stays with https")
        return target

    @property
    def authority(self) -> str:
        """As the field Host has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            host
            if self.port == PORTS["https" if self.secure else "http"]
            else f"{host}:{self.port}"
        )


def refusal(reason: str) -> FetchError:
    """The error of a URL."""
    return FetchError("url", reason)


def _split(url: str) -> SplitResult:
    if len(url) > _LONGEST or any(sign <= " " or sign in "\\\x7f" for sign in url):
        raise refusal(f"the URL must have at most {_LONGEST} signs, and no blanks among them")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _not_understood() from None
    if parts.scheme not in PORTS:
        raise refusal("the URL must begin with http:// or https://")
    if "@" in parts.netloc:
        raise refusal("the URL must have no user name or password")
    if not host or not host.isascii() or "%" in host:
        raise refusal("the URL's host must be a name in ASCII (xn--...) or an address")
    return parts


def _not_understood() -> FetchError:
    return refusal("the URL cannot be understood")
