"""Whether a certificate may sign models: a chain to a root that the verifier named, at a time that the verifier names (RFC 5280, section 6).

Rules
1. Roots come from the verifier. What a bundle brings is a way to them, never an anchor.
2. The signer's certificate has a key usage with digitalSignature (section 4.2.1.3); where it says what else it is for, that includes code signing
   (section 4.2.1.12), so that a web server's certificate signs no model. A CA's own certificate signs none.
3. Every certificate of the chain is valid at the time. There is no timestamp in such a bundle, so an expired one counts only where the verifier
   says at which time it was seen. Revocation lists are not asked.
"""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError

from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.vouches import UnixMillis

MAX_DEPTH = 4
"""Certificates between the signer's and the root."""
_REMEDY = "sign with a certificate for code signing, below a root that is named with --certificate"


def signer_of(chain: tuple[bytes, ...], roots: tuple[x509.Certificate, ...], at: UnixMillis) -> x509.Certificate:
    """The signer's certificate, when the chain holds. Raises `Unverified`, `InvalidInput`."""
    try:
        leaf, *above = [x509.load_der_x509_certificate(one) for one in chain]
        when = datetime.datetime.fromtimestamp(at / 1000, tz=datetime.UTC)
        verifier = (
            PolicyBuilder()
            .store(Store(list(roots)))
            .time(when)
            .max_chain_depth(MAX_DEPTH)
            .extension_policies(ca_policy=_authority(), ee_policy=_signer())
            .build_client_verifier()
        )
        verifier.verify(leaf, above)
    except VerificationError as error:
        raise Unverified(f"the signer's certificate does not hold: {str(error)[:300]}", remedy=_REMEDY) from None
    except (ValueError, x509.InvalidVersion, x509.UnsupportedGeneralNameType) as error:
        raise InvalidInput(f"the bundle's certificates cannot be read: {str(error)[:200]}", remedy=_REMEDY) from None
    return leaf


def key_of(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """The certificate's key. Raises `Unverified`."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Unverified("the signer's certificate is not of an elliptic curve key", remedy="use P-256, P-384 or P-521")
    return key


def check_may_sign(certificate: x509.Certificate) -> None:
    """Rule 2, for who is about to sign. Raises `InvalidInput`."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        _usage(None, certificate, usage)
    except (x509.ExtensionNotFound, ValueError):
        raise InvalidInput("the certificate is not for signing: no key usage `digitalSignature`", remedy=_REMEDY) from None
    try:
        _purpose(None, certificate, certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return
    except ValueError:
        raise InvalidInput("the certificate is for other purposes than code signing", remedy=_REMEDY) from None


def _authority() -> ExtensionPolicy:
    return ExtensionPolicy.webpki_defaults_ca().may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None)


def _signer() -> ExtensionPolicy:
    return (
        ExtensionPolicy.webpki_defaults_ee()
        .may_be_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
        .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _usage)
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _purpose)
    )


def _usage(_: Policy | None, __: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.digital_signature:
        raise ValueError("its key usage lacks digitalSignature")


def _purpose(_: Policy | None, __: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
    if usage is not None and ExtendedKeyUsageOID.CODE_SIGNING not in usage:
        raise ValueError("it is for other purposes than code signing")
