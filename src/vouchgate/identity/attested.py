"""What attestors share: what evidence is held against (`Trust`), what came of it (`Attested`), and how selectors are written.

Left to others: verifying (foreign_tokens.py, foreign_certificates.py, signed_documents.py) and the attestors themselves (attestors/).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vouchgate.vocabulary.principals import Selector
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

MAX_SELECTOR = 1_024
"""Characters of a selector's value; longer facts are left out, so no registration can be earned by them."""


class JoinToken(Noun, frozen=True, kw_only=True):
    """A join token that waits, as it is kept: the token itself is known to its bearer alone."""

    sha256: str
    """Lower-case hexadecimal SHA-256 of the token."""
    expires_at: UnixMillis


class Trust(Noun, frozen=True, kw_only=True):
    """What presented evidence is held against: recorded keys and settings, never anything that the caller said."""

    name: str = ""
    """The source's name in vouchgate.toml."""
    trust_domain: str = ""
    """Ours. No foreign key vouches for a name of it."""
    issuer: str = ""
    """The one accepted issuer: a URL, or for `spiffe` evidence the foreign trust domain."""
    audience: str = ""
    """The one accepted audience: what tokens for us, and for nobody else, carry."""
    keys: bytes = b""
    """JWK Set or SPIFFE bundle."""
    authorities: tuple[bytes, ...] = ()
    """Certificates, DER: CAs that a path may end at, issuing ones too, or the signers themselves where a provider publishes those."""
    host: str = ""
    """DNS name that the signer's certificate of a document must have; empty for the provider's own."""
    max_age_seconds: int = 0
    """How old evidence without an end of its own may be; 0 for the attestor's own bound."""
    join_tokens: tuple[JoinToken, ...] = ()
    required: tuple[str, ...] = ()
    """Claims that a generic token must have; each becomes a selector."""
    optional: tuple[str, ...] = ()
    """Claims that it may have; each becomes a selector."""
    ignored: tuple[str, ...] = ()
    """Claims that it may have and that say nothing here."""


class Attested(Noun, frozen=True, kw_only=True):
    """What was established."""

    selectors: tuple[Selector, ...]
    replay_key: str = ""
    """What may not be used again; empty for collected facts."""
    expires_at: UnixMillis = UnixMillis(0)
    """Until when `replay_key` is kept; 0 with a replay key means for ever."""


def prefix(trust: Trust, short: str) -> str:
    """What the selector types of this source begin with (attestors, rule 4)."""
    return short if trust.name in ("", short) else f"{short}.{trust.name}"


def selectors(first: str, facts: Mapping[str, Any]) -> tuple[Selector, ...]:
    """A selector for each fact that has a value; a flag is `true` or `false`, a list gives one selector an item."""
    found: list[Selector] = []
    for name, value in facts.items():
        for item in value if isinstance(value, list | tuple) else [value]:
            text = str(item).lower() if isinstance(item, bool) else str(item)
            if item is not None and 0 < len(text) <= MAX_SELECTOR:
                found.append(Selector(type=f"{first}:{name}", value=text))
    return tuple(found)
