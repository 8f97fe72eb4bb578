"""Credentials of the plain hop and the peers, of a trust domain that exists for one run: made by the product's own identity room, so that
every row checks certificates and tokens of the same form and size."""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate.identity.bundle import make_bundle, write_jwks
from vouchgate.identity.ca import make_ca, spki_of
from vouchgate.identity.jwtsvid import MAX_LIFE_SECONDS, issue_jwt
from vouchgate.identity.x509svid import issue_x509
from vouchgate.vocabulary.decisions import Grant
from vouchgate.vocabulary.leased import LeasedMap
from vouchgate.vocabulary.names import ResourceId, TrustDomain
from vouchgate.vocabulary.places import Route
from vouchgate.vocabulary.trust import key_id
from vouchgate.vocabulary.vouches import UnixMillis

TRUST_DOMAIN = "bench.local"
ENDPOINT = f"vg://{TRUST_DOMAIN}/endpoint/digits"
ALLOWED = f"spiffe://{TRUST_DOMAIN}/service/serving/allowed"
DENIED = f"spiffe://{TRUST_DOMAIN}/service/serving/denied"
HOUR_MS = 3_600_000


class Credentials:
    """A CA with two callers and a server, as files in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ca_key, self._jwt_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        now = now_ms()
        ca = make_ca(TRUST_DOMAIN, self._ca_key, now=now, days=1)
        self._ca = x509.load_der_x509_certificate(ca)
        self.bundle = write_jwks(make_bundle(TRUST_DOMAIN, x509_authorities=(ca,), jwt_spkis=(spki_of(self._jwt_key.public_key()),)))
        (directory / "ca.pem").write_text(ssl.DER_cert_to_PEM_cert(ca))
        self._leaf("server", f"spiffe://{TRUST_DOMAIN}/server/serving/digits", now, ["localhost"])
        self._leaf("allowed", ALLOWED, now)
        self._leaf("denied", DENIED, now)

    def file(self, name: str) -> str:
        """Path of `ca.pem`, or of `server`, `allowed`, `denied` with `.pem` or `.key`."""
        return str(self.directory / name)

    def context(self, who: str = "") -> ssl.SSLContext:
        """TLS as the caller `allowed`, `denied`, or as nobody."""
        return client_context(self.file("ca.pem"), *((self.file(f"{who}.pem"), self.file(f"{who}.key")) if who else ()))

    def token(self, subject: str = ALLOWED) -> str:
        """A JWT-SVID of the longest life."""
        kid = key_id(spki_of(self._jwt_key.public_key()))
        life, jti = MAX_LIFE_SECONDS, f"bench-{time.monotonic_ns()}"
        return issue_jwt(
            subject, ENDPOINT, key=self._jwt_key, kid=kid, trust_domain=TRUST_DOMAIN, now=now_ms(), ttl_seconds=life, jti=jti
        ).token

    def leased_map(self, path: str, *, mode: str = "enforce", lease_ms: int = HOUR_MS) -> LeasedMap:
        """The map under which `allowed` may infer at `path` and `denied` may not."""
        grants = [
            Grant(
                id=f"grant-{kind}", decision_id="bench", principal=ALLOWED, credential_kind=kind, action="infer", resource=ENDPOINT,
                pep="in_process", epoch=1, not_after=UnixMillis(now_ms() + HOUR_MS),
            )
            for kind in ("x509", "jwt")
        ]  # fmt: skip
        return LeasedMap(
            trust_domain=TrustDomain(TRUST_DOMAIN), endpoint=ResourceId(ENDPOINT), epoch=1, now=now_ms(), lease_ms=lease_ms, mode=mode,  # type: ignore[arg-type]
            bearer=True, routes=(Route(method="POST", path=path, action="infer"),), grants=tuple(grants), bundle=self.bundle,
        )  # fmt: skip

    def _leaf(self, name: str, principal: str, now: UnixMillis, dns: Sequence[str] = ()) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        spki, ca = spki_of(key.public_key()), self._ca
        made = issue_x509(
            spki, principal, ca=ca, ca_key=self._ca_key, trust_domain=TRUST_DOMAIN, now=now, ttl_seconds=HOUR_MS // 1000, dns=dns
        )
        (self.directory / f"{name}.pem").write_text(ssl.DER_cert_to_PEM_cert(made.chain[0]))
        write_key(self.directory / f"{name}.key", key)


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """PKCS #8, readable by its owner."""
    path.touch(0o600)
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


def client_context(ca: str, certificate: str = "", key: str = "") -> ssl.SSLContext:
    """TLS as a caller of the gateway speaks it: the server is known by its CA, not by its host name (SPIFFE has no host names)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca)
    if certificate:
        context.load_cert_chain(certificate, key)
    return context


def now_ms() -> UnixMillis:
    """Wall time; a benchmark is an edge."""
    return UnixMillis(time.time_ns() // 1_000_000)


class Probe(msgspec.Struct, frozen=True):
    """Statuses that a row's protection is judged by."""

    allowed: int
    denied: int
    anonymous: int

    def faults(self) -> list[str]:
        """Why this does not protect; empty where it does."""
        found = []
        if self.allowed != 200:
            found.append(f"the allowed caller got {self.allowed}")
        if self.denied != 403:
            found.append(f"a caller without a grant got {self.denied}, not 403")
        if self.anonymous not in {401, 403, 0}:
            found.append(f"a caller without identity got {self.anonymous}")
        return found
