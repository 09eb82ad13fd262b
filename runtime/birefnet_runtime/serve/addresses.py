"""Which IP addresses belong to the public internet."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IANA's registry of special-purpose IPv4 addresses (2026-01), but for the anycast services in it
# that everybody reaches; and multicast. A table of our own, since ``is_global`` changed with
# patch releases of Python (3.11.10, 3.12.4) and holds multicast for global.
_SPECIAL_4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        # Azure's wire server, which answers every virtual machine there under a public address.
        "168.63.129.16/32",
    )
)

# All that was ever given out for use between networks; loopback, link-local, unique local (with
# the metadata services fd00:ec2::254 and fd20:ce::254), multicast, ::a.b.c.d, the translations
# ::ffff:0:0:0/96 and 64:ff9b:1::/48, discard and segment routing lie outside.
_UNICAST_6 = ipaddress.IPv6Network("2000::/3")
# IETF protocols (Teredo, ORCHID, benchmarks), two ranges for documents, and 6to4.
_SPECIAL_6 = tuple(
    ipaddress.IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "3fff::/20", "2002::/16")
)
# RFC 6052: a network of IPv6 alone reaches IPv4 so; the last 32 bits are the address.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# RFC 5214: the middle of an address that a router takes to the IPv4 address in its last 32 bits.
_ISATAP = (0x00005EFE, 0x02005EFE)


def is_public(text: str) -> bool:
    """Whether ``text`` is an IP address that packets reach over the public internet alone.

    An IPv6 address that stands for an IPv4 one (mapped, NAT64) is judged by that; other ways to
    wrap one (6to4, Teredo, ISATAP, translated, compatible) are of no use to a public host today,
    and refused. So is what is no address at all, and one with a zone.
    """
    try:
        address = _unwrapped(ipaddress.ip_address(text))
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_4)
    if address.scope_id or (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return False
    return address in _UNICAST_6 and not any(address in network for network in _SPECIAL_6)


def _unwrapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address
