"""Providers outside: one TLS cluster each, whose own filter puts the provider's key in, after everything that could be asked about it.

Rules
1. The provider's certificate must chain to the named authorities (else the system's) and hold for exactly the upstream's host (RFC 9525,
   section 6); its name is sent as SNI. TLS 1.2 at least.
2. What the caller sent as a credential of its own is removed: the secret's header, and every header of `CREDENTIALS`. So are forwarded
   addresses, which are nobody's business outside. A query, in which some providers take keys, is no route unless it is allowed.
3. The secret comes over SDS and is put in by the cluster's own filter: it is on the way to this provider alone, in no route, no log and no
   dump, and a new one counts from the next request on. Without it there is no cluster: 503, never a call without a key.
4. Its version is a count, not a digest: a digest is shown in dumps, and would let a weak secret be guessed.
"""

from __future__ import annotations

import ipaddress

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.credential_injector.v3 import credential_injector_pb2
from envoy.extensions.filters.http.upstream_codec.v3 import upstream_codec_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.http.injected_credentials.generic.v3 import generic_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from envoy.type.matcher.v3 import string_pb2

from vouchgate.edges.envoy.messages import Message, extension, over_ads, packed
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.places import Egress, Endpoint

CREDENTIALS = (
    *("authorization", "proxy-authorization", "cookie", "dpop", "x-api-key", "api-key", "x-goog-api-key", "x-auth-token"),
    *("x-amz-security-token", "x-goog-iam-authorization-token"),
)
"""Headers by which providers know callers; ours alone goes out."""
PRIVATE = ("x-forwarded-for", "x-forwarded-proto")
MAX_SECRET_BYTES = 8192
"""Bytes of a secret; a signed token of a provider's has about 2,000."""


def host_of(endpoint: Endpoint) -> tuple[str, int]:
    """The provider's host and port. Raises `InvalidInput`."""
    scheme, _, rest = endpoint.upstream.partition(":")
    host, _, port = rest.rpartition(":")
    if scheme != "https" or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidInput(f"`{endpoint.upstream[:200]}` is not a provider's address", remedy="write https:api.example.com:443")
    return host, int(port)


def removed_headers(egress: Egress) -> list[str]:
    """What never leaves; the secret's own header included."""
    return sorted({*CREDENTIALS, *PRIVATE, egress.header})


def tls_to(endpoint: Endpoint, system_ca: str) -> Message:
    """The transport socket to the provider."""
    assert endpoint.egress is not None
    host, _ = host_of(endpoint)
    context = tls_pb2.UpstreamTlsContext(sni="" if _is_address(host) else host)
    common = context.common_tls_context
    common.tls_params.tls_minimum_protocol_version = common_pb2.TlsParameters.TLSv1_2
    common.alpn_protocols.append("http/1.1")
    common.validation_context.trusted_ca.filename = endpoint.egress.ca_file or system_ca
    kind = common_pb2.SubjectAltNameMatcher.IP_ADDRESS if _is_address(host) else common_pb2.SubjectAltNameMatcher.DNS
    common.validation_context.match_typed_subject_alt_names.add(san_type=kind, matcher=string_pb2.StringMatcher(exact=host))
    return base_pb2.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def injecting(endpoint: Endpoint) -> list[Message]:
    """The cluster's filters: the secret, then the codec that sends."""
    assert endpoint.egress is not None
    made = [hcm_pb2.HttpFilter(name="envoy.filters.http.upstream_codec", typed_config=packed(upstream_codec_pb2.UpstreamCodec()))]
    if endpoint.egress.secret:
        generic = generic_pb2.Generic(header=endpoint.egress.header)
        generic.credential.name = secret_name(endpoint)
        generic.credential.sds_config.CopyFrom(over_ads())
        config = credential_injector_pb2.CredentialInjector(overwrite=True, allow_request_without_credential=False)
        config.credential.CopyFrom(extension("envoy.http.injected_credentials.generic", generic))
        made.insert(0, hcm_pb2.HttpFilter(name="envoy.filters.http.credential_injector", typed_config=packed(config)))
    return made


def secret_name(endpoint: Endpoint) -> str:
    """Name of the resource that holds the header's whole value."""
    return f"egress/{endpoint.id}"


def egress_secret(endpoint: Endpoint, value: bytes) -> Message:
    """The header's whole value. Raises `InvalidInput`, which never says it."""
    assert endpoint.egress is not None
    check_secret(value)
    whole = endpoint.egress.prefix.encode() + value
    return secret_pb2.Secret(name=secret_name(endpoint), generic_secret={"secret": base_pb2.DataSource(inline_bytes=whole)})


def check_secret(value: bytes) -> None:
    """A secret is one line of visible ASCII (RFC 9110, section 5.5), so that it can end no header. Raises `InvalidInput`."""
    if not 0 < len(value) <= MAX_SECRET_BYTES or any(not 0x21 <= byte <= 0x7E for byte in value):
        raise InvalidInput("the secret cannot stand in a header", remedy=f"1 to {MAX_SECRET_BYTES} visible ASCII characters, no line end")


def kind_of(endpoint: Endpoint) -> int:
    """How Envoy finds the provider: a literal address as it is, a name by DNS."""
    return int(cluster_pb2.Cluster.STATIC if _is_address(host_of(endpoint)[0]) else cluster_pb2.Cluster.STRICT_DNS)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
