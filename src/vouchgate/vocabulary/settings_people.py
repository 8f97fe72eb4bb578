"""Settings of how people come and go: `[[oidc]]`, providers with which they log in, and `[ssf]`, who tells whom that somebody is out.

Rules
1. A secret is a file, never a value.
2. A provider's groups give nothing that `groups` does not name; a role only where it is written as `role:<role>`.
3. Only origins that stand here are ever asked: the issuer's own, and those in `origins`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from vouchgate.vocabulary.wire import Noun

_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Alias = Annotated[str, Meta(pattern=_NAME)]
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
RESERVED_ALIASES = frozenset({"admin", "unknown"})
"""Zones of persons that are not a provider's: administrators of vouchgate.toml, and uids that nobody registered."""
_URL = re.compile(r"(https://[A-Za-z0-9._\-\[\]:]+|http://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?)(/[A-Za-z0-9._~%/-]*)?\Z")
_GROUP = re.compile(r"(role:)?[a-z0-9][a-z0-9._-]{0,63}\Z")


class OidcSettings(Noun, frozen=True, kw_only=True):
    """[[oidc]]"""

    name: Annotated[Alias, Meta(description="Persons become spiffe://<trust domain>/person/<name>/<sub>.")]
    title: Annotated[str, Meta(max_length=80, description="What the login page calls it; empty: its name.")] = ""
    issuer: Annotated[str, Meta(max_length=512, description="The provider's issuer, exactly as its tokens say it.")]
    client_id: Annotated[str, Meta(min_length=1, max_length=256, description="This client at the provider.")]
    client_auth: Annotated[
        Literal["none", "basic", "post", "private_key_jwt"],
        Meta(description="How the client proves itself: a public client with PKCE, a secret, or a key of its own."),
    ] = "none"
    secret_file: Annotated[
        str, Meta(max_length=1024, description="File (0600, of the token service's uid) with the client's secret, or its P-256 key as PEM.")
    ] = ""
    scopes: Annotated[tuple[str, ...], Meta(max_length=16, description="Scopes asked for beside openid.")] = ("profile",)
    groups_claim: Annotated[str, Meta(min_length=1, max_length=128, description="Claim that lists the provider's groups.")] = "groups"
    groups: Annotated[
        dict[str, str],
        Meta(max_length=512, description="Provider's group = group that policies name, or role:<role>; others are passed over."),
    ] = {}
    name_claim: Annotated[str, Meta(min_length=1, max_length=128, description="Claim shown as the person's name; never an identity.")] = (
        "name"
    )
    userinfo: Annotated[bool, Meta(description="Ask the userinfo endpoint for groups that the ID token does not carry.")] = False
    algorithms: Annotated[tuple[Algorithm, ...], Meta(min_length=1, max_length=11, description="Signature algorithms that count.")] = (
        "RS256", "PS256", "ES256", "EdDSA",
    )  # fmt: skip
    max_age_seconds: Annotated[
        int, Meta(ge=0, le=31_536_000, description="The person must have logged in at the provider within this; 0: whenever.")
    ] = 0
    session_minutes: Annotated[
        int, Meta(ge=5, le=1440, description="A login and its groups count this long; then the person logs in again.")
    ] = 480
    keys: Annotated[
        str,
        Meta(
            max_length=65_536, description="Its JWK Set, pinned: these keys alone count, and none are fetched; empty: as it publishes them."
        ),
    ] = ""
    origins: Annotated[
        tuple[str, ...], Meta(max_length=8, description="Origins beside the issuer's where its endpoints and keys may be.")
    ] = ()
    ca_file: Annotated[
        str, Meta(max_length=1024, description="PEM file of the only authorities for its certificate; empty: the system's.")
    ] = ""
    private_network: Annotated[bool, Meta(description="It may have an address of a private network.")] = False


class TransmitterSettings(Noun, frozen=True, kw_only=True):
    """[[ssf.transmitters]]"""

    name: Annotated[Alias, Meta(description="Events come to /ssf/events/<name> of the token service.")]
    provider: Annotated[Alias, Meta(description="The [[oidc]] whose people it speaks of.")]
    issuer: Annotated[str, Meta(max_length=512, description="Issuer of its event tokens.")]
    audience: Annotated[str, Meta(min_length=1, max_length=512, description="Audience of its event tokens: what it calls us.")]
    keys_url: Annotated[str, Meta(max_length=512, description="Its JWK Set; empty: the provider's recorded keys.")] = ""
    algorithms: Annotated[tuple[Algorithm, ...], Meta(min_length=1, max_length=11, description="Signature algorithms that count.")] = (
        "RS256", "PS256", "ES256", "EdDSA",
    )  # fmt: skip
    token_file: Annotated[
        str, Meta(max_length=1024, description="File (0600) with the bearer token that it must send; empty: its signature is enough.")
    ] = ""
    events_per_minute: Annotated[int, Meta(ge=1, le=60_000, description="Events taken from it.")] = 600
    ca_file: Annotated[str, Meta(max_length=1024, description="PEM file of the only authorities for its certificate.")] = ""
    private_network: Annotated[bool, Meta(description="It may have an address of a private network.")] = False


class ReceiverSettings(Noun, frozen=True, kw_only=True):
    """[[ssf.receivers]]"""

    name: Annotated[Alias, Meta(description="Who is told of our revocations.")]
    url: Annotated[str, Meta(max_length=512, description="Where events are pushed to (RFC 8935).")]
    audience: Annotated[str, Meta(min_length=1, max_length=512, description="Audience of our event tokens.")]
    token_file: Annotated[str, Meta(max_length=1024, description="File (0600) with the bearer token that it expects; empty: none.")] = ""
    ca_file: Annotated[str, Meta(max_length=1024, description="PEM file of the only authorities for its certificate.")] = ""
    private_network: Annotated[bool, Meta(description="It may have an address of a private network.")] = False


class SsfSettings(Noun, frozen=True, kw_only=True):
    """[ssf]"""

    issuer: Annotated[str, Meta(max_length=512, description="Issuer of our own event tokens; empty: [sts] url.")] = ""
    transmitters: Annotated[tuple[TransmitterSettings, ...], Meta(max_length=16, description="Who tells us that a person is out.")] = ()
    receivers: Annotated[tuple[ReceiverSettings, ...], Meta(max_length=16, description="Whom we tell of revocations.")] = ()


Complain = Callable[[tuple[str | int, ...], str, str], Exception]


def check_people(oidc: Sequence[OidcSettings], ssf: SsfSettings, person_zones: Sequence[str], roles: Sequence[str], no: Complain) -> None:
    """Contradictions; `no` makes the error for a key."""
    aliases = [one.name for one in oidc]
    for number, one in enumerate(oidc):
        _check_provider(one, ("oidc", number), aliases[:number], person_zones, roles, no)
    for table, names in (("transmitters", [one.name for one in ssf.transmitters]), ("receivers", [one.name for one in ssf.receivers])):
        for number, name in enumerate(names):
            if name in names[:number]:
                raise no(("ssf", table, number, "name"), "it is used twice", "each must be its own")
    for number, transmitter in enumerate(ssf.transmitters):
        if transmitter.provider not in aliases:
            raise no(("ssf", "transmitters", number, "provider"), f"there is no [[oidc]] `{transmitter.provider}`", "name one of them")
        _check_url(transmitter.keys_url, ("ssf", "transmitters", number, "keys_url"), no)
    for number, receiver in enumerate(ssf.receivers):
        if not receiver.url:
            raise no(("ssf", "receivers", number, "url"), "it is missing", "write https://name/path")
        _check_url(receiver.url, ("ssf", "receivers", number, "url"), no)


def check_events(ssf: SsfSettings, listen: str, url: str, no: Complain) -> None:
    """Whether events can come in where some are announced, and whether ours name an issuer that receivers can find."""
    if ssf.transmitters and not listen:
        raise no(("ssf", "transmitters"), "events come to the token service, which does not listen", "set `listen` of [sts]")
    issuer = ssf.issuer or url
    if ssf.receivers and not (issuer and _URL.match(issuer)):
        raise no(
            ("ssf", "issuer"), "our events need an issuer", "set it, or `url` of [sts], to the address at which receivers find our keys"
        )


def _check_provider(
    one: OidcSettings, here: tuple[str | int, ...], before: Sequence[str], person_zones: Sequence[str], roles: Sequence[str], no: Complain
) -> None:
    if one.name in before:
        raise no((*here, "name"), "it is used twice", "each must be its own")
    if one.name in RESERVED_ALIASES or one.name in person_zones:
        raise no((*here, "name"), f"`{one.name}` names other persons already", "choose another name")
    if not one.issuer:
        raise no((*here, "issuer"), "it is missing", "write https://name")
    for key, text in (("issuer", one.issuer), *(("origins", origin) for origin in one.origins)):
        _check_url(text, (*here, key), no)
    if (one.client_auth == "none") == bool(one.secret_file):
        raise no(
            (*here, "secret_file"),
            f"with `client_auth = {one.client_auth}`",
            "a client that proves itself needs a file, a public one has none",
        )
    for group in one.groups.values():
        if not _GROUP.match(group) or (group.startswith("role:") and group.removeprefix("role:") not in roles):
            raise no((*here, "groups"), f"`{group[:80]}` is not a group", f"write a plain name, or role: and one of {', '.join(roles)}")


def _check_url(text: str, where: tuple[str | int, ...], no: Complain) -> None:
    if text and not _URL.match(text):
        raise no(where, f"`{text[:80]}` is not an address", "write https://name/path; http is for this machine alone")


def absolute_people(oidc: Sequence[OidcSettings], ssf: SsfSettings, at: Callable[[str], str]) -> dict[str, Any]:
    """The fields with every path made absolute by `at`."""

    def files(one: Any) -> Any:
        return msgspec.structs.replace(
            one, **{name: at(getattr(one, name)) for name in ("secret_file", "token_file", "ca_file") if hasattr(one, name)}
        )

    return {
        "oidc": tuple(files(one) for one in oidc),
        "ssf": SsfSettings(
            issuer=ssf.issuer,
            transmitters=tuple(files(one) for one in ssf.transmitters),
            receivers=tuple(files(one) for one in ssf.receivers),
        ),
    }
