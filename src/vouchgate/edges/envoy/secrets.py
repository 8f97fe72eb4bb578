"""Certificates over SDS: the gateway's own SVID, and the bundle against which callers' certificates are checked.

One trust domain, one bundle: Envoy's SPIFFE validator, which knows several, and any name matcher in the validation context refuse every
caller without a certificate, so they cannot stand where a token alone may be enough; and several authorities in one plain bundle could each mint the others' ids.
Partners have a listener of their own, where a certificate is a must: there the validator checks each id against its own trust domain's
bundle alone (SPIFFE Federation, section 3), and our own bundle is not among them.

A rotation touches new handshakes only; what ends live connections is the connection's longest age (listener.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_spiffe_validator_config_pb2 as spiffe_pb2

from vouchgate.edges.envoy.messages import Message, extension
from vouchgate.edges.envoy.settings import BUNDLE_SECRET, PARTNER_SECRET, SVID_SECRET

MAX_INTERMEDIATES = 3
"""Certificates between a caller's and an authority of the bundle: ours needs one, an upstream authority of another product two."""


def svid_secret(certificate_chain_pem: str, private_key_pem: str) -> Message:
    """The gateway's certificate chain and key."""
    certificate = common_pb2.TlsCertificate(
        certificate_chain=base_pb2.DataSource(inline_string=certificate_chain_pem),
        private_key=base_pb2.DataSource(inline_string=private_key_pem),
    )
    return secret_pb2.Secret(name=SVID_SECRET, tls_certificate=certificate)


def bundle_secret(pem: str) -> Message:
    """Authorities of our own trust domain (SPIFFE X.509-SVID, section 5); which names count, maps.py checks."""
    context = common_pb2.CertificateValidationContext(trusted_ca=base_pb2.DataSource(inline_string=pem))
    # measured: the authority of the bundle counts too
    context.max_verify_depth.value = MAX_INTERMEDIATES + 1
    return secret_pb2.Secret(name=BUNDLE_SECRET, validation_context=context)


def partner_secret(bundles: Mapping[str, str]) -> Message:
    """Foreign trust domain -> its authorities (PEM). Raises `InvalidInput`."""
    config = spiffe_pb2.SPIFFECertValidatorConfig()
    for name, pem in sorted(bundles.items()):
        config.trust_domains.add(name=name, trust_bundle=base_pb2.DataSource(inline_string=pem))
    context = common_pb2.CertificateValidationContext(custom_validator_config=extension("envoy.tls.cert_validator.spiffe", config))
    return secret_pb2.Secret(name=PARTNER_SECRET, validation_context=context)
