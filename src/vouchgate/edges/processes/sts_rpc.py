"""What the control plane answers the token service: it verifies and decides everything that the service only carries.

An expected "no" goes back as `{"denied": {code, reason, remedy}}`, because its code is the standard's and not one of our errors'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vouchgate.edges.processes.rpc_server import Handler, Peer
from vouchgate.flows.issue_identity import bundle_pem
from vouchgate.identity.bundle import write_jwks
from vouchgate.vocabulary.errors import NotPermitted, Unavailable
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.wire import to_plain

if TYPE_CHECKING:
    from vouchgate.edges.processes.control import Control

STS_SVID_SECONDS = 3600
"""Life of the service's certificate; renewed at half of it."""


def handlers(control: Control) -> dict[str, Handler]:
    """The methods, each for the token service alone."""
    context = control.context

    def only(peer: Peer) -> None:
        if peer.uid not in {control.users.of("sts"), control.users.own}:
            raise NotPermitted(f"uid {peer.uid} is not the token service", remedy="use the `vouchgate` command line")

    async def certificate(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer)
        hosts = [host for host in control.settings.sts.hosts if not host.replace(".", "").isdigit() and ":" not in host]
        name = principal(context.trust_domain, "system", "sts", "sts")
        said = await context.signer.call("x509_svid", spki=params["spki"], principal=name, ttl_seconds=STS_SVID_SECONDS, dns=hosts)
        return {"chain": said["chain"], "bundle": bundle_pem(context), "seconds": STS_SVID_SECONDS}

    async def jwks(peer: Peer, _: dict[str, Any]) -> Any:
        only(peer)
        if context.facts.bundle is None:
            raise Unavailable("there are no keys yet", remedy="try again shortly")
        return write_jwks(context.facts.bundle, uses=("jwt-svid",))

    async def event(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer)
        return to_plain(await control.people.events.take(params["transmitter"], params["token"], peer=params["peer"]))

    return {"sts.event": event, "sts.certificate": certificate, "sts.jwks": jwks}


def plain(value: Any) -> Any:
    """A flow's answer as it goes over the wire."""
    return {"denied": to_plain(value)} if isinstance(value, Denied) else to_plain(value)
