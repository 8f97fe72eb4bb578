"""Settings of foreign trust domains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from vouchgate.vocabulary.wire import Noun

Complain = Callable[[tuple[str | int, ...], str, str], Any]
"""`(where, what, remedy) -> the error to raise` (settings_file.py)."""


MAX_PARTNERS = 64
"""Foreign trust domains of one installation: each is a bundle at every gateway, and a fetch a minute."""


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


def check_federation(partners: Sequence[FederationSettings], ours: str, no: Complain) -> None:
    """What the types cannot say: each partner once, none of them ourselves, and what its profile needs. Raises by `no`."""
    if len(partners) > MAX_PARTNERS:
        raise no(
            ("federation",), f"{len(partners)} partners are over the bound of {MAX_PARTNERS}", "run a second installation for the others"
        )
    for number, one in enumerate(partners):
        here = ("federation", number)
        if one.trust_domain == ours:
            raise no((*here, "trust_domain"), "this is our own trust domain", "name the partner's")
        for key in ("name", "trust_domain"):
            if getattr(one, key) in [getattr(other, key) for other in partners[:number]]:
                raise no((*here, key), "it is used twice", "each must be its own")
        if one.profile == "file":
            if not one.bundle_file:
                raise no((*here, "bundle_file"), "it is missing", "name the partner's bundle, a JWK Set")
            continue
        if not one.url.startswith("https://"):
            raise no((*here, "url"), f"`{one.url[:80]}` is not an address", "write https://name/path")
        if one.profile == "https_spiffe" and not one.spiffe_id.startswith(f"spiffe://{one.trust_domain}/"):
            raise no((*here, "spiffe_id"), f"it is not an id of `{one.trust_domain}`", "write the SPIFFE id of its bundle endpoint")
        if one.profile == "https_spiffe" and not one.bundle_file:
            raise no((*here, "bundle_file"), "it is missing", "name a first bundle: without one its endpoint cannot be verified")


def absolute_federation(partners: Sequence[FederationSettings], at: Callable[[str], str]) -> tuple[FederationSettings, ...]:
    """Files counted from the settings file."""
    return tuple(msgspec.structs.replace(one, bundle_file=at(one.bundle_file), ca_file=at(one.ca_file)) for one in partners)
