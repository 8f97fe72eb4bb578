"""Identities of the model servers that vouchgate starts: each runs as a user of its own, and that user earns the server's name.

1. `spiffe://<trust domain>/server/<zone>/<endpoint>`, bound to what the endpoint's evidence says (workload_binding.py).
2. Where processes share one user, servers cannot be told apart, and none is registered: one of them would speak for all.
3. An identity of that name in vouchgate.toml stands instead.
"""

from __future__ import annotations

from vouchgate.flows.units import server_uids
from vouchgate.vocabulary.layout import Users
from vouchgate.vocabulary.names import TrustDomain, principal, resource
from vouchgate.vocabulary.principals import Registration, Selector, svid_seconds
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.vouches import UnixMillis

KIND = "server"


def server_registrations(settings: Settings, now: UnixMillis, *, own_uid: int, isolated: bool) -> list[Registration]:
    """Rules 1 to 3."""
    if not isolated:
        return []
    users = Users(base=settings.uid_base, own=own_uid)
    td = TrustDomain(settings.trust_domain)
    uids = server_uids(settings, users)
    named = {principal(td, one.kind, one.zone, one.name) for one in settings.identities}
    return [
        Registration(
            principal=principal(td, KIND, one.zone, one.name),
            trust_domain=td,
            selectors=(Selector(type="unix:uid", value=str(uids[one.name])),),
            svid_ttl_seconds=svid_seconds(KIND),
            endpoint=resource(td, "endpoint", one.name),
            source="settings",
            created_at=now,
        )
        for one in settings.endpoints
        if one.name in uids and principal(td, KIND, one.zone, one.name) not in named
    ]
