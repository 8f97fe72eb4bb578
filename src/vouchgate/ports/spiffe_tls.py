"""TLS to a server that proves itself by an X.509-SVID instead of a host name (SPIFFE Federation, section 5.2.2; X509-SVID, section 5).

Rules
1. The chain is verified against the authorities given, and nothing else: no system store, no host name.
2. Right after the handshake, before a byte is sent, the leaf must have exactly one URI name, the one expected.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

from vouchgate.vocabulary.errors import InvalidInput


def context(authorities: Sequence[bytes], spiffe_id: str) -> ssl.SSLContext:
    """A client's context for exactly `spiffe_id`. Raises `InvalidInput` where an authority cannot be read."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    # an authority of a bundle need not be self-signed (X509-SVID, section 6.1)
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        made.load_verify_locations(cadata=b"".join(authorities))
    except (ssl.SSLError, ValueError):
        raise InvalidInput("an authority of the bundle cannot be read", remedy="ask the partner's operator") from None

    def named(connection: Any) -> None:
        names = [value for kind, value in (connection.getpeercert() or {}).get("subjectAltName", ()) if kind == "URI"]
        if names != [spiffe_id]:
            refused = ssl.SSLCertVerificationError(f"the server is not {spiffe_id}")
            refused.verify_message = f"the server is not {spiffe_id}"
            raise refused

    class Named(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            named(self)

    class NamedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            named(self)

    made.sslobject_class, made.sslsocket_class = Named, NamedSocket
    return made
