"""What the control plane answers the decision point about the AuthZEN edge: it records what was decided for others, and certifies its listener."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vouchgate.edges.processes.rpc_server import Handler, Peer
from vouchgate.flows.issue_identity import bundle_pem
from vouchgate.vocabulary.errors import NotPermitted
from vouchgate.vocabulary.names import principal

if TYPE_CHECKING:
    from vouchgate.edges.processes.control import Control

PDP_SVID_SECONDS = 3600
"""Life of the listener's certificate; renewed at half of it."""


def handlers(control: Control) -> dict[str, Handler]:
    """The methods, each for the decision point alone."""

    def only(peer: Peer) -> None:
        if peer.uid not in {control.users.of("pdp"), control.users.own}:
            raise NotPermitted(f"uid {peer.uid} is not the PDP worker", remedy="use the `vouchgate` command line")

    async def record_decisions(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer)
        await control.record_decisions(params["decisions"], params["asked_by"])
        return {}

    async def certificate(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer)
        hosts = [host for host in control.settings.authzen.hosts if not host.replace(".", "").isdigit() and ":" not in host]
        name = principal(control.context.trust_domain, "system", "pdp", "pdp")
        said = await control.signer.call("x509_svid", spki=params["spki"], principal=name, ttl_seconds=PDP_SVID_SECONDS, dns=hosts)
        return {"chain": said["chain"], "bundle": bundle_pem(control.context), "seconds": PDP_SVID_SECONDS}

    return {"record_decisions": record_decisions, "authzen.certificate": certificate}
