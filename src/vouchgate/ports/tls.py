"""A TLS server's side: a context from a certificate and key in memory, and who is at the other end.

Rules
1. TLS 1.3 alone (RFC 8446); a client's certificate is asked for, not required, and one that is shown must verify against the bundle.
2. Sessions are not resumed, since a resumed one would skip the check against today's bundle.
3. The private key never lies in a file system: OpenSSL reads it from an anonymous file in memory (memfd_create(2)), which is gone at once.
"""

from __future__ import annotations

import os
import ssl
from typing import Any

MAX_CHAIN = 4
"""Certificates taken from a peer."""


def server_context(chain_pem: str, key_pem: bytes, bundle_pem: str) -> ssl.SSLContext:
    """A context for one certificate; a renewed certificate or bundle makes a new one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # our own CA is the anchor even where another CA signed it (ADR 12)
    context.load_verify_locations(cadata=bundle_pem)
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, chain_pem.encode() + key_pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context


def peer_chain(tls: Any) -> tuple[bytes, ...]:
    """DER certificates that the peer of a finished handshake presented, leaf first; empty where it presented none."""
    leaf = tls.getpeercert(binary_form=True)
    if not leaf:
        return ()
    presented = getattr(getattr(tls, "_sslobj", tls), "get_unverified_chain", None)
    chain = presented() if presented is not None else None
    if not chain:
        return (leaf,)
    # Python 3.13 gives bytes, older ones certificate objects
    ders = tuple(one if isinstance(one, bytes) else ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in chain[:MAX_CHAIN])
    return ders if ders[0] == leaf else (leaf,)
