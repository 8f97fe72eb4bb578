"""What the control plane answers on its frames socket, each method for exactly the process that needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vouchgate.edges.processes.agent_rpc import handlers as agent_handlers
from vouchgate.edges.processes.authzen_rpc import handlers as authzen_handlers
from vouchgate.edges.processes.rpc_server import Handler, Peer
from vouchgate.edges.processes.sts_rpc import handlers as sts_handlers
from vouchgate.flows import serve_models
from vouchgate.flows.shape import SOURCE, Shaped
from vouchgate.flows.units import server_uids
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.approvals import Owed
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import NotPermitted
from vouchgate.vocabulary.leased import InProcessCall
from vouchgate.vocabulary.records import SetOffset

if TYPE_CHECKING:
    from vouchgate.edges.processes.control import Control


def handlers(control: Control) -> dict[str, Handler]:
    """The methods."""
    users = control.users

    def only(peer: Peer, name: str) -> None:
        if peer.uid not in {users.of(name) if name != "supervisor" else users.own, users.own}:
            raise NotPermitted(f"uid {peer.uid} is not the {name}", remedy="use the `vouchgate` command line")

    async def offset(peer: Peer, _: dict[str, Any]) -> Any:
        only(peer, "tailer")
        position = control.store.offset(SOURCE)
        return {"inode": position.inode, "offset": position.offset} if position else {"inode": 0, "offset": 0}

    async def take_lines(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer, "tailer")
        shaped = [wire.decode(Shaped, one, what="log line") for one in params["lines"]]
        step = SetOffset(
            source=SOURCE,
            inode=params["inode"],
            offset=params["end"],
            expected_offset=params["offset"],
            expected_inode=params["before"],
        )
        await control.observer.take(shaped, step)
        return {}

    async def tail_alive(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer, "tailer")
        control.health.tail(behind_ms=params["behind_ms"])
        return {}

    async def record_decision(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer, "pdp")
        await control.record_decision(wire.decode(Decision, params["decision"], what="decision"))
        return {}

    async def settle_decision(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer, "pdp")
        decision = wire.decode(Decision, params["decision"], what="decision")
        return wire.encode(await control.settle_decision(decision, wire.decode(Owed, params["owed"], what="obligations")))

    async def import_model(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer, "supervisor")
        made = await serve_models.import_model(control.system, params["staged"], params["digest"], params["name"], params["zone"], peer.pid)
        return wire.encode(made)

    async def serving(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer, "supervisor")
        return {"id": await serve_models.vouch_serving(control.context, params)}

    async def ready(peer: Peer, _: dict[str, Any]) -> Any:
        only(peer, "supervisor")
        return wire.encode(await control.system.ready())

    async def counters(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer, "supervisor")
        await control.health.reconcile(params["completed"])
        return {}

    async def gateway_ended(peer: Peer, params: dict[str, Any]) -> Any:
        only(peer, "supervisor")
        await control.health.gateway_ended(params["since"], params["reason"])
        return {}

    async def reload(peer: Peer, _: dict[str, Any]) -> Any:
        only(peer, "supervisor")
        await control.reload()
        return {}

    def its_server(peer: Peer, endpoint: str) -> None:
        """A server asks for its own endpoint; without uids of their own, servers cannot be told apart."""
        name = endpoint.rpartition("/")[2]
        if peer.uid not in {server_uids(control.settings, users).get(name), users.own}:
            raise NotPermitted(
                f"uid {peer.uid} does not serve `{name[:64]}`", remedy="ask for the endpoint that this server was started for"
            )

    async def pull(peer: Peer, params: dict[str, Any]) -> Any:
        its_server(peer, str(params.get("endpoint", "")))
        return wire.to_plain(await control.in_process.pull(params["endpoint"], params["epoch"], params["wait_ms"]))

    async def record(peer: Peer, params: dict[str, Any]) -> Any:
        its_server(peer, str(params.get("endpoint", "")))
        calls = [wire.from_plain(InProcessCall, one, what="call") for one in params["calls"]]
        await control.in_process.record(params["endpoint"], calls, params["lost"])
        return {}

    return {
        **agent_handlers(control),
        **sts_handlers(control),
        **authzen_handlers(control),
        "in_process.pull": pull,
        "in_process.record": record,
        "reload": reload,
        "gateway_ended": gateway_ended,
        "offset": offset,
        "take_lines": take_lines,
        "tail_alive": tail_alive,
        "record_decision": record_decision,
        "settle_decision": settle_decision,
        "import_model": import_model,
        "serving": serving,
        "ready": ready,
        "counters": counters,
    }
