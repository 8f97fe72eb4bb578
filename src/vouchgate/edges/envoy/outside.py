"""What the gateway knows of others: partners' trust domains, our names for their callers, and the secrets of providers; state alone.

Rules
1. Our own trust domain is no partner, whoever says so.
2. A name stands for a foreign caller only where its zone begins with `federated-`; so no registration makes a partner one of our own.
3. A secret is kept as bytes, never shown, and has a count for a version (egress.py, rule 4).

Pushing is publisher.py's business.
"""

from __future__ import annotations

from collections.abc import Mapping

from vouchgate.edges.envoy.ads import Resource
from vouchgate.edges.envoy.egress import check_secret, egress_secret, secret_name
from vouchgate.edges.envoy.messages import packed
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded
from vouchgate.vocabulary.names import principal_parts, trust_domain
from vouchgate.vocabulary.places import Endpoint
from vouchgate.vocabulary.principals import ALIAS_ZONE
from vouchgate.vocabulary.settings_federation import MAX_PARTNERS


class Outside:
    """See the module's text."""

    def __init__(self, ours: str) -> None:
        self._ours = ours
        self.partners: frozenset[str] = frozenset()
        """Trust domains whose callers are known by a bundle."""
        self.aliases: dict[str, tuple[str, ...]] = {}
        """Our name -> the foreign ids behind it."""
        self._secrets: dict[str, bytes] = {}
        self._rendered: dict[str, bytes] = {}
        self._count = 0

    def set_partners(self, bundles: Mapping[str, str]) -> None:
        """All of them. Raises `InvalidInput`, `LimitExceeded`; then nothing changed."""
        for name in bundles:
            if trust_domain(name) == self._ours:
                raise InvalidInput("our own trust domain is no partner", remedy="name the partner's trust domain")
        if len(bundles) > MAX_PARTNERS:
            raise LimitExceeded(f"{len(bundles)} partners are over the bound of {MAX_PARTNERS}", remedy="run a second gateway")
        self.partners = frozenset(bundles)

    def set_names(self, names: Mapping[str, str]) -> set[str]:
        """All foreign callers that are known, foreign id -> our name; the names of ours whose meaning changed."""
        aliases: dict[str, tuple[str, ...]] = {}
        for foreign, alias in sorted(names.items()):
            if principal_parts(alias).zone.startswith(ALIAS_ZONE):
                aliases[alias] = (*aliases.get(alias, ()), foreign)
        changed = {alias for alias in aliases.keys() | self.aliases.keys() if aliases.get(alias) != self.aliases.get(alias)}
        self.aliases = aliases
        return changed

    def set_secret(self, name: str, value: bytes) -> None:
        """Its newest version; empty withdraws it. Raises `InvalidInput`, which never says it."""
        if value:
            check_secret(value)
            self._secrets[name] = bytes(value)
        else:
            self._secrets.pop(name, None)

    def has_secret(self, endpoint: Endpoint) -> bool:
        """Whether everything is there that a call to it needs."""
        return endpoint.egress is None or not endpoint.egress.secret or endpoint.egress.secret in self._secrets

    def fresh_secrets(self, endpoints: Mapping[str, Endpoint]) -> dict[str, Resource]:
        """What of these providers' secrets is other than it was last rendered."""
        made = {}
        for endpoint in endpoints.values():
            if endpoint.egress is None or endpoint.egress.secret not in self._secrets:
                continue
            value = packed(egress_secret(endpoint, self._secrets[endpoint.egress.secret]))
            if self._rendered.get(endpoint.id) != value.value:
                self._count += 1
                self._rendered[endpoint.id] = value.value
                made[secret_name(endpoint)] = Resource(value, f"secret-{self._count}")
        return made
