"""Habit: when and from where a caller usually calls, and the spelling of networks and hours that a registration declares.

A network is what a provider gives to one site: /24 of IPv4 and /48 of IPv6 (RFC 6177, section 2). Hours are UTC.
"""

from __future__ import annotations

import functools
import ipaddress
import re

from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import PrincipalId
from vouchgate.vocabulary.wire import Noun

V4_PREFIX, V6_PREFIX = 24, 48
MAX_DECLARED = 16
"""Networks that one registration declares; an office and its branches."""
_HOURS = re.compile(r"([0-9]|1[0-9]|2[0-3])-([0-9]|1[0-9]|2[0-4])\Z", re.ASCII)
REMEMBERED = 16_384
"""Addresses and declarations whose reading is remembered."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Habit(Noun, frozen=True, kw_only=True):
    """What one caller was seen to do on days before today."""

    principal: PrincipalId
    hours: int = 0
    """Bit n is set where it calls within hour n (UTC)."""
    networks: tuple[str, ...] = ()
    """`10.1.2.0/24`, `2001:db8:1::/48`; sorted."""


def _peer(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IPv4 peer on an IPv6 socket (RFC 4291, section 2.5.5.2) is the IPv4 peer. None for no address."""
    try:
        read = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return read.ipv4_mapped or read if isinstance(read, ipaddress.IPv6Address) else read


@functools.lru_cache(maxsize=REMEMBERED)
def network_of(address: str) -> str:
    """The network of a peer's address. Empty for no address."""
    read = _peer(address)
    if read is None:
        return ""
    return str(ipaddress.ip_network((read, V4_PREFIX if read.version == 4 else V6_PREFIX), strict=False))


@functools.lru_cache(maxsize=REMEMBERED)
def is_within(address: str, networks: tuple[str, ...]) -> bool:
    """Whether an address is in one of the declared networks."""
    read = _peer(address)
    if read is None:
        return False
    return any(read.version == one.version and read in one for one in (ipaddress.ip_network(text) for text in networks))


def check_networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    """In their one spelling, sorted. Raises `InvalidInput`."""
    if len(networks) > MAX_DECLARED:
        raise InvalidInput(f"{len(networks)} networks are declared", remedy=f"at most {MAX_DECLARED}")
    found = set()
    for text in networks:
        try:
            found.add(str(ipaddress.ip_network(text)))
        except ValueError:
            raise InvalidInput(f"`{text[:64]}` is not a network", remedy="write 10.1.0.0/16 or 2001:db8::/32") from None
    return tuple(sorted(found))


@functools.lru_cache(maxsize=REMEMBERED)
def hours_of(text: str) -> int:
    """The hours of `8-18` (8 up to, not including, 18; `22-6` goes over midnight) as bits; none for empty. Raises `InvalidInput`."""
    if not text:
        return 0
    match = _HOURS.match(text)
    first, end = (int(match[1]), int(match[2])) if match else (0, 0)
    if not match or first == end % 24:
        raise InvalidInput(f"`{text[:16]}` is no span of hours", remedy="write 8-18, or 22-6 over midnight, in UTC")
    hours = range(first, end) if first < end else (*range(first, 24), *range(end))
    return sum(1 << hour for hour in hours)
