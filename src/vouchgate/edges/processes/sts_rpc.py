"""What the control plane answers the token service: it verifies and decides everything that the service only carries.

An expected "no" goes back as `{"denied": {code, reason, remedy}}`, because its code is the standard's and not one of our errors'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vouchgate.edges.processes.rpc_server import Handler, Peer
from vouchgate.flows.attest_remote import AttestRequest, address
from vouchgate.flows.issue_identity import bundle_pem
from vouchgate.flows.login_oidc import CallBack
from vouchgate.identity.bundle import write_jwks
from vouchgate.vocabulary.errors import NotPermitted, Unavailable
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.wire import from_plain, to_plain

if TYPE_CHECKING:
    from vouchgate.edges.processes.control import Control

STS_SVID_SECONDS = 3600
"""Life of the service's certificate; renewed at half of it."""


def handlers(control: Control) -> dict[str, Handler]:
    """The methods, each for the token service alone."""
    context, service = control.context, control.token_service

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
        return service.jwks()

    async def metadata(peer: Peer, _: dict[str, Any]) -> Any:
        only(peer)
        return service.metadata()

    async def token(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer)
        made = await service.token(params["form"], chain=tuple(params["chain"]), proof=params["proof"], peer=params["peer"])
        if isinstance(made, Denied):
            return plain(made)
        return to_plain(made)

    async def attest(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer)
        request = from_plain(AttestRequest, params["request"], what="request")
        return plain(await service.attest(request, proof=params["proof"], peer=params["peer"]))

    async def nonce(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer)
        return {"nonce": service.nonce(digits=params["digits"])}

    async def authorize(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer)
        made = service.authorize(params["query"], params["peer"])
        return plain(made) if isinstance(made, Denied) else {"login": made}

    async def login(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer)
        providers = control.people.providers()
        if not service.pending.waits(params["wish"], context.clock.now()):
            return plain(Denied(code="invalid-request", reason="nobody waits for this login", remedy="begin again in the application"))
        if not params["provider"] and len(providers) != 1:
            return {"providers": [{"name": one.name, "title": one.title or one.name} for one in providers]}
        chosen = params["provider"] or providers[0].name
        url = f"{address(context)}/login/callback"
        begun = await control.people.begin(chosen, redirect_uri=url, owner=f"authorize:{params['wish']}")
        return {"url": begun.url, "binding": begun.binding}

    async def login_back(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer)
        back = CallBack(**params["back"])
        person = await control.people.logins.finish(params["binding"], f"authorize:{params['wish']}", back, peer=params["peer"])
        return {"url": service.granted(params["wish"], person.registration.principal)}

    async def event(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer)
        return to_plain(await control.people.events.take(params["transmitter"], params["token"], peer=params["peer"]))

    async def bundle(peer: Peer, _: dict[str, Any]) -> Any:
        only(peer)
        if context.facts.bundle is None:
            raise Unavailable("there is no bundle yet", remedy="try again shortly")
        return write_jwks(context.facts.bundle)

    return {
        "sts.login": login,
        "sts.login_back": login_back,
        "sts.event": event,
        "sts.bundle": bundle,
        "sts.certificate": certificate,
        "sts.jwks": jwks,
        "sts.metadata": metadata,
        "sts.token": token,
        "sts.attest": attest,
        "sts.nonce": nonce,
        "sts.authorize": authorize,
    }


def plain(value: Any) -> Any:
    """A flow's answer as it goes over the wire."""
    return {"denied": to_plain(value)} if isinstance(value, Denied) else to_plain(value)
