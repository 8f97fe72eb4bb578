"""Settings of foreign trust domains."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from vouchgate.vocabulary.wire import Noun


class FederationSettings(Noun, frozen=True, kw_only=True):
    """[[federation]]"""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="How you call the partner.")]
    trust_domain: Annotated[str, Meta(pattern=r"^[a-z0-9._-]{1,255}$", description="Its trust domain; never ours.")]
    profile: Annotated[
        Literal["https_web", "https_spiffe", "file"],
        Meta(description="How its bundle is fetched: over the web's TLS, over its own SVID, or only from `bundle_file`."),
    ] = "https_web"
    url: Annotated[str, Meta(max_length=2048, description="Its bundle endpoint, https://...; empty with profile `file`.")] = ""
    spiffe_id: Annotated[str, Meta(max_length=2048, description="With https_spiffe: the SPIFFE id of its bundle endpoint.")] = ""
    bundle_file: Annotated[str, Meta(description="A bundle to begin with (https_spiffe), or to stay with (file).")] = ""
    ca_file: Annotated[str, Meta(description="With https_web: PEM of the only authorities of its endpoint; empty: the system's.")] = ""
    private_network: Annotated[bool, Meta(description="Whether its endpoint may have an address of a private network.")] = False
    stale_hours: Annotated[int, Meta(ge=1, le=720, description="A bundle that cannot be fetched again counts for this long.")] = 24
