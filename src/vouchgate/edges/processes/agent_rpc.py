"""What the control plane answers the agent: `workload.*`, for the agent's uid alone; `workload.rotate` for the supervisor's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vouchgate.edges.processes.rpc_server import Handler, Peer
from vouchgate.flows.workload import Wanted
from vouchgate.flows.workload_refusals import Refusal
from vouchgate.flows.workload_validate import validate
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.errors import NotPermitted
from vouchgate.vocabulary.outcomes import Denied

if TYPE_CHECKING:
    from vouchgate.edges.processes.control import Control

MAX_TOKEN_CHARACTERS = 16_384
"""Characters of a token that is looked at at all."""


def handlers(control: Control) -> dict[str, Handler]:
    """The methods."""
    users = control.users

    def of(name: str, answer: Callable[[dict[str, Any]], Any]) -> Handler:
        async def call(peer: Peer, params: dict[str, Any]) -> Any:
            if peer.uid not in {users.of("agent") if name == "agent" else users.own, users.own}:
                raise NotPermitted(f"uid {peer.uid} is not the {name}", remedy="use the Workload API")
            return await answer(params)

        return call

    async def issue(params: dict[str, Any]) -> Any:
        requests = wire.from_plain(tuple[Wanted, ...], params["requests"], what="requests")
        return await control.workloads.issue(requests, gone=params["gone"])

    async def state(_: dict[str, Any]) -> Any:
        return await control.workload_state.now()

    async def validated(params: dict[str, Any]) -> Any:
        made = validate(control.context, str(params["token"])[:MAX_TOKEN_CHARACTERS], str(params["audience"]))
        return {"ok": False, "reason": made.reason} if isinstance(made, Denied) else {"ok": True, **made}

    async def refused(params: dict[str, Any]) -> Any:
        told = [{name: value for name, value in one.items() if name != "times"} for one in params["refused"]]
        control.workloads.told_by_agent(wire.from_plain(tuple[Refusal, ...], told, what="refusals"))
        return {}

    async def rotate(params: dict[str, Any]) -> Any:
        return {"connections": control.workload_push.rotate(str(params.get("principal", "")))}

    return {
        "workload.issue": of("agent", issue),
        "workload.state": of("agent", state),
        "workload.validate": of("agent", validated),
        "workload.refused": of("agent", refused),
        "workload.rotate": of("supervisor", rotate),
    }
