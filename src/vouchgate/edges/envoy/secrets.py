"""Certificates over SDS: the gateway's own SVID, and the bundle against which callers' certificates are checked.

One trust domain, one bundle: Envoy's SPIFFE validator, which knows several, and any name matcher in the validation context refuse every
caller without a certificate, so they cannot stand where a token alone may be enough; and several authorities in one plain bundle could each mint the others' ids.

A rotation touches new handshakes only; what ends live connections is the connection's longest age (listener.py).
"""

from __future__ import annotations

from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2

from vouchgate.edges.envoy.messages import Message
from vouchgate.edges.envoy.settings import BUNDLE_SECRET, SVID_SECRET


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
    return secret_pb2.Secret(name=BUNDLE_SECRET, validation_context=context)
