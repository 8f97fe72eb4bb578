"""JWT-SVIDs at the gateway: one provider an endpoint, pushed over ECDS so that a new endpoint or key drains no listener.

Rules
1. A provider accepts exactly its endpoint's id as audience, one issuer, keys of the pushed JWKS alone, a subject of our trust domain, an
   `exp` at most `MAX_TOKEN_SECONDS` away, and a clock skew of one second (Envoy's own default is 60).
2. Only `Authorization: Bearer` and `Authorization: DPoP` (RFC 9449, section 7.1) are read: no query parameter, no cookie.
3. A missing token is no identity; a bad one is 401. At a wrapped endpoint a bad one is no identity too, since it may be the legacy
   server's own; there a good one is taken out, so that it never reaches the upstream. Towards a provider a bad one is no identity
   either: its library insists on some key, and whatever stands there is taken out before the provider's own is put in.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2
from google.protobuf import empty_pb2

from vouchgate.edges.envoy.messages import Message, seconds
from vouchgate.vocabulary.places import Endpoint

JWT = "jwt"
MAX_TOKEN_SECONDS = 300
"""Longest life of a token that is accepted; what a thief has at most, revocation apart."""
CLOCK_SKEW_SECONDS = 1
CACHE_ENTRIES = 4096
"""Verified tokens remembered per worker; a hit costs 58 us against 144."""
MAX_TOKEN_BYTES = 8192


def deny_tokens() -> Message:
    """What holds before the first push: no provider, and a route that names one is refused."""
    return config_pb2.JwtAuthentication()


def token_filter(endpoints: Iterable[Endpoint], jwks: str, *, issuer: str, trust_domain: str) -> Message:
    """The filter's configuration for all endpoints; with an empty JWKS no token is good."""
    made = config_pb2.JwtAuthentication()
    for endpoint in endpoints:
        provider = made.providers[endpoint.id]
        provider.issuer = issuer
        provider.audiences.append(endpoint.id)
        provider.subjects.prefix = f"spiffe://{trust_domain}/"
        provider.require_expiration = True
        provider.max_lifetime.CopyFrom(seconds(MAX_TOKEN_SECONDS + CLOCK_SKEW_SECONDS))
        provider.local_jwks.inline_string = jwks or '{"keys":[]}'
        provider.forward = not endpoint.wrapped
        provider.from_headers.add(name="authorization", value_prefix="Bearer ")
        provider.from_headers.add(name="authorization", value_prefix="DPoP ")
        provider.payload_in_metadata = "payload"
        provider.clock_skew_seconds = CLOCK_SKEW_SECONDS
        provider.jwt_cache_config.jwt_cache_size = CACHE_ENTRIES
        provider.jwt_cache_config.jwt_max_token_size = MAX_TOKEN_BYTES
        either = made.requirement_map[endpoint.id].requires_any.requirements
        either.add(provider_name=endpoint.id)
        if endpoint.wrapped or endpoint.egress is not None:
            either.add(allow_missing_or_failed=empty_pb2.Empty())
        else:
            either.add(allow_missing=empty_pb2.Empty())
    return made


def requires_token_of(endpoint: Endpoint) -> Message:
    """A route's pointer to its endpoint's provider."""
    return config_pb2.PerRouteConfig(requirement_name=endpoint.id)
