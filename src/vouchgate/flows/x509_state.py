"""What the X.509 authority consists of: roots and issuers with their keys, what of them is remembered, and where the keys lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

FIRST = 1
"""Number of the root whose key is `x509-ca`; the others' keys have their number in the name."""
RootStatus = Literal["requested", "prepared", "active", "retiring"]
Step = Literal["prepare", "activate", "retire", "abandon", "issuer"]


class RootState(Noun, frozen=True, kw_only=True):
    """Where one root stands; part of what the signer remembers."""

    number: int
    status: RootStatus
    since: UnixMillis
    upstream: bool = False
    """Whether a CA above ours signs it."""
    above: int = 0
    """Certificates between it and that CA's root."""


class CaState(Noun, frozen=True, kw_only=True):
    """What the signer remembers of the authority; empty while there is but the first root."""

    roots: tuple[RootState, ...] = ()
    issuers: tuple[int, ...] = ()
    """Numbers of the issuers whose leaves may live."""


class MemoryKeys:
    """Keys that end with their process, for whoever only tries things out: what the authority asks of a `KeyStore`."""

    slow = False

    def __init__(self, root: ec.EllipticCurvePrivateKey, certificate: bytes) -> None:
        self._keys = {root_name(FIRST): root}
        self._certificates = {root_name(FIRST): certificate}

    def has(self, name: str) -> bool:
        """See `KeyStore`."""
        return name in self._keys

    def ec(self, name: str, *, make: bool = False) -> ec.EllipticCurvePrivateKey:
        """See `KeyStore`."""
        if make:
            self._keys[name] = ec.generate_private_key(ec.SECP256R1())
        return self._keys[name]

    def remove(self, name: str) -> None:
        """See `KeyStore`."""
        self._keys.pop(name, None)
        self._certificates.pop(name, None)

    def has_certificate(self, name: str) -> bool:
        """See `KeyStore`."""
        return name in self._certificates

    def certificate(self, name: str) -> bytes:
        """See `KeyStore`."""
        return self._certificates[name]

    def put_certificate(self, name: str, der: bytes) -> None:
        """See `KeyStore`."""
        self._certificates[name] = der


class CaKeys(Protocol):
    """What the authority asks of a `KeyStore` (flows/keystore.py)."""

    slow: bool

    def has(self, name: str) -> bool: ...
    def ec(self, name: str, *, make: bool = False) -> ec.EllipticCurvePrivateKey: ...
    def remove(self, name: str) -> None: ...
    def has_certificate(self, name: str) -> bool: ...
    def certificate(self, name: str) -> bytes: ...
    def put_certificate(self, name: str, der: bytes) -> None: ...


@dataclass(frozen=True)
class Root:
    """One root with its key."""

    state: RootState
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    chain: tuple[bytes, ...]
    """Its certificate and, for one that a CA above ours signed, those between it and that CA's root. Empty while it is only requested."""

    @cached_property
    def certificate(self) -> x509.Certificate:
        """What stands in the bundle."""
        return x509.load_der_x509_certificate(self.chain[0])

    @property
    def ends(self) -> UnixMillis:
        """When it expires."""
        return UnixMillis(int(self.certificate.not_valid_after_utc.timestamp()) * 1000)


@dataclass(frozen=True)
class Issuer:
    """What signs leaves now."""

    number: int
    """0 where it is the root itself."""
    root: int
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate
    above: tuple[bytes, ...]
    """What a leaf carries after itself."""

    @property
    def begins(self) -> UnixMillis:
        """When it was made."""
        return UnixMillis(int(self.certificate.not_valid_before_utc.timestamp()) * 1000)

    @property
    def ends(self) -> UnixMillis:
        """When it expires."""
        return UnixMillis(int(self.certificate.not_valid_after_utc.timestamp()) * 1000)

    def due(self, now: UnixMillis) -> bool:
        """Whether half of its life is over. A root does not rotate by itself: renewing it is a person's act."""
        return self.number != 0 and now >= self.begins + (self.ends - self.begins) // 2


def root_name(number: int) -> str:
    """Name of a root's key."""
    return "x509-ca" if number == FIRST else f"x509-ca-{number}"


def issuer_name(number: int) -> str:
    """Name of an issuer's key."""
    return f"x509-issuer-{number}"


def above_name(number: int, place: int) -> str:
    """Name of a certificate between a root and the CA's root above it."""
    return f"{root_name(number)}-above-{place}"
