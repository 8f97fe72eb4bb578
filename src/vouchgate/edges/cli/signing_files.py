"""Keys, certificates and bundles that commands are given as files."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from vouchgate.edges.cli.arguments import Usage


def content(path: str | Path) -> bytes:
    """Raises `Usage`."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Usage(f"`{path}` cannot be read: {error.strerror}", remedy="name the file") from None


def private_key(path: str) -> ec.EllipticCurvePrivateKey:
    """An elliptic curve key. Raises `Usage`, without a word of what the file holds."""
    try:
        key = load_pem_private_key(content(path), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Usage(
            f"`{path}` is no plain private key of an elliptic curve", remedy="openssl ecparam -name prime256v1 -genkey -noout -out key.pem"
        )
    return key


def public_key(path: str) -> ec.EllipticCurvePublicKey:
    """An elliptic curve key. Raises `Usage`."""
    try:
        key = load_pem_public_key(content(path))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Usage(f"`{path}` is no public key of an elliptic curve", remedy="openssl ec -in key.pem -pubout -out key.pub")
    return key


def certificates(path: str) -> tuple[x509.Certificate, ...]:
    """One or more, as they stand. Raises `Usage`."""
    try:
        return tuple(x509.load_pem_x509_certificates(content(path)))
    except (ValueError, x509.InvalidVersion):
        raise Usage(f"`{path}` holds no certificates", remedy="name a PEM file with certificates") from None


def inside(signature: Path, model: Path) -> frozenset[str]:
    """The signature's own path inside the model's folder, where it lies in it."""
    own, folder = signature.absolute().parent.resolve() / signature.name, model.resolve()
    return frozenset({own.relative_to(folder).as_posix()}) if folder in own.parents else frozenset()


def signing_key(path: str) -> Ed25519PrivateKey | ec.EllipticCurvePrivateKey:
    """An Ed25519 or elliptic curve key. Raises `Usage`, without a word of what the file holds."""
    try:
        key = load_pem_private_key(content(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise Usage(
            f"`{path}` is no plain private key (Ed25519 or elliptic curve)", remedy="openssl genpkey -algorithm ed25519 -out key.pem"
        )
    return key


def verifying_key(path: str) -> Ed25519PublicKey | ec.EllipticCurvePublicKey:
    """An Ed25519 or elliptic curve key. Raises `Usage`."""
    try:
        key = load_pem_public_key(content(path))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey | ec.EllipticCurvePublicKey):
        raise Usage(f"`{path}` is no public key (Ed25519 or elliptic curve)", remedy="openssl pkey -in key.pem -pubout -out key.pub")
    return key
