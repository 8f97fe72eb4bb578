"""Cedar's extension types: decimal, ipaddr, datetime, duration; parsed, compared and computed as Cedar 4 does.

Rules
1. A constructor accepts exactly what Cedar's accepts; anything else raises `ExtensionError`, as an evaluation error does in Cedar.
2. Decimal is a 64-bit integer of ten-thousandths, datetime and duration are 64-bit milliseconds; leaving the range is an error.
3. Two addresses are equal when address and prefix are: `10.0.0.1/24` is not `10.0.0.0/24`.

(Cedar language reference, "Functions for extension data types"; cedar-policy-core `extensions/`.)
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

I64_MIN, I64_MAX = -(2**63), 2**63 - 1
MAX_IP_CHARACTERS = 43
"""Characters of the longest address with prefix, as in Cedar."""
DAY_MS = 86_400_000

_DECIMAL = re.compile(r"(-?[0-9]+)\.([0-9]+)\Z")
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_CLOCK = re.compile(r"T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{3}))?(Z|[+-][0-9]{4})\Z")
_DURATION = re.compile(r"(-?)(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?(?:([0-9]+)ms)?\Z")
_UNITS_MS = (DAY_MS, 3_600_000, 60_000, 1_000, 1)


class ExtensionError(Exception):
    """An extension call that Cedar answers with an evaluation error."""


def checked(value: int) -> int:
    """The value if it fits 64 bits. Raises `ExtensionError`."""
    if I64_MIN <= value <= I64_MAX:
        return value
    raise ExtensionError("beyond 64 bits")


class Extended:
    """Base of the four extension types."""

    __slots__ = ()
    constructor = ""

    @property
    def text(self) -> str:
        """Argument of the constructor that makes this value."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Decimal(Extended):
    """A fixed-point number with four digits."""

    units: int
    """Ten-thousandths."""
    constructor = "decimal"

    @property
    def text(self) -> str:
        whole, part = divmod(abs(self.units), 10_000)
        return f"{'-' if self.units < 0 else ''}{whole}.{part:04d}"


@dataclass(frozen=True, slots=True)
class Duration(Extended):
    """A span of time."""

    millis: int
    constructor = "duration"

    @property
    def text(self) -> str:
        return f"{self.millis}ms"


@dataclass(frozen=True, slots=True)
class DateTime(Extended):
    """A moment; milliseconds since 1970-01-01T00:00:00Z."""

    millis: int
    constructor = "datetime"

    def offset(self, by: Duration) -> DateTime:
        return DateTime(checked(self.millis + by.millis))

    def since(self, other: DateTime) -> Duration:
        return Duration(checked(self.millis - other.millis))

    def date(self) -> DateTime:
        return DateTime(checked(self.millis - self.millis % DAY_MS))

    def time(self) -> Duration:
        return Duration(self.millis % DAY_MS)


@dataclass(frozen=True, slots=True)
class Ip(Extended):
    """An address with its prefix length."""

    version: int
    address: int
    prefix: int
    constructor = "ip"

    @property
    def bits(self) -> int:
        return 32 if self.version == 4 else 128

    @property
    def text(self) -> str:
        plain = ipaddress.IPv4Address(self.address) if self.version == 4 else ipaddress.IPv6Address(self.address)
        return f"{plain}/{self.prefix}"

    def in_range(self, other: Ip) -> bool:
        if self.version != other.version or self.prefix < other.prefix:
            return False
        host_bits = self.bits - other.prefix
        return self.address >> host_bits == other.address >> host_bits

    def loopback(self) -> bool:
        return self.in_range(_LOOPBACK[self.version])

    def multicast(self) -> bool:
        return self.in_range(_MULTICAST[self.version])


_LOOPBACK = {4: Ip(4, 127 << 24, 8), 6: Ip(6, 1, 128)}
_MULTICAST = {4: Ip(4, 224 << 24, 4), 6: Ip(6, 0xFF << 120, 8)}


def parse_decimal(text: str) -> Decimal:
    """`[-]digits.digits`, at most four after the point. Raises `ExtensionError`."""
    match = _DECIMAL.match(text)
    if not match or len(match[2]) > 4 or len(text) > 32:
        raise ExtensionError(text)
    part = int(match[2].ljust(4, "0"))
    whole = int(match[1]) * 10_000
    return Decimal(checked(whole - part if text.startswith("-") else whole + part))


def parse_ip(text: str) -> Ip:
    """An address, or a range `address/prefix`. Raises `ExtensionError`."""
    address, slash, prefix = text.partition("/")
    if len(text) > MAX_IP_CHARACTERS or "%" in address or not text.isascii() or (":" in address and "." in address):
        raise ExtensionError(text)
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise ExtensionError(text) from None
    bits = parsed.max_prefixlen
    if not slash:
        return Ip(parsed.version, int(parsed), bits)
    if not re.fullmatch(r"0|[1-9][0-9]{0,2}", prefix) or int(prefix) > bits:
        raise ExtensionError(text)
    return Ip(parsed.version, int(parsed), int(prefix))


def _days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar, which has a year 0 (`datetime` has none)."""
    shifted = year - (month <= 2)
    era, of_era = divmod(shifted, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _date_millis(year: int, month: int, day: int) -> int:
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    lengths = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    if not 1 <= month <= 12 or not 1 <= day <= lengths[month - 1]:
        raise ExtensionError("no such day")
    return _days_from_civil(year, month, day) * DAY_MS


def parse_datetime(text: str) -> DateTime:
    """`YYYY-MM-DD`, optionally `Thh:mm:ss[.SSS](Z|+hhmm|-hhmm)`. Raises `ExtensionError`."""
    match = _DATE.match(text)
    if not match or not text.isascii():
        raise ExtensionError(text)
    millis = _date_millis(int(match[1]), int(match[2]), int(match[3]))
    rest = text[match.end() :]
    if not rest:
        return DateTime(millis)
    clock = _CLOCK.match(rest)
    if not clock:
        raise ExtensionError(text)
    hour, minute, second = int(clock[1]), int(clock[2]), int(clock[3])
    if hour > 23 or minute > 59 or second > 59:
        raise ExtensionError(text)
    millis += ((hour * 60 + minute) * 60 + second) * 1000 + int(clock[4] or 0)
    if clock[5] != "Z":
        hours, minutes = int(clock[5][1:3]), int(clock[5][3:5])
        if hours > 23 or minutes > 59:
            raise ExtensionError(text)
        away = (hours * 60 + minutes) * 60_000
        millis += -away if clock[5][0] == "+" else away
    return DateTime(millis)


def parse_duration(text: str) -> Duration:
    """`[-][d][h][m][s][ms]` in this order, at least one. Raises `ExtensionError`."""
    match = _DURATION.match(text)
    if not match or not any(match.groups()[1:]) or len(text) > 120:
        raise ExtensionError(text)
    sign = -1 if match[1] else 1
    total = 0
    for amount, unit in zip(match.groups()[1:], _UNITS_MS, strict=True):
        if amount is not None:
            total = checked(total + checked(sign * int(amount) * unit))
    return Duration(total)


CONSTRUCTORS: dict[str, Callable[[str], Extended]] = {
    "decimal": parse_decimal,
    "ip": parse_ip,
    "datetime": parse_datetime,
    "duration": parse_duration,
}


def parse_extension(constructor: str, text: str) -> Extended:
    """The extension value that `constructor(text)` makes. Raises `ExtensionError`."""
    parse = CONSTRUCTORS.get(constructor)
    if parse is None:
        raise ExtensionError(constructor)
    return parse(text)
