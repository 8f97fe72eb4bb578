"""Who may call which method of the control plane's frames socket: asked before anything else of the request is read."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from vouchgate.edges.processes.control_rpc import handlers
from vouchgate.edges.processes.rpc_server import Peer
from vouchgate.vocabulary.errors import NotPermitted
from vouchgate.vocabulary.layout import OFFSETS, Users
from vouchgate.vocabulary.settings import EndpointSettings

USERS = Users(base=58_000, own=0)


def methods():
    settings = SimpleNamespace(endpoints=(EndpointSettings(name="digits", zone="serve", command=("x",)),))
    return handlers(MagicMock(users=USERS, settings=settings))


@pytest.mark.parametrize("method", sorted(methods()))
def test_a_request_that_says_nothing_is_refused_for_who_sends_it(method: str) -> None:
    for uid in (65_534, USERS.of("scanner"), USERS.of("witness"), USERS.server(3)):
        with pytest.raises(NotPermitted):
            asyncio.run(methods()[method](Peer(pid=1, uid=uid, gid=uid), {}))


@pytest.mark.parametrize("who", sorted(set(OFFSETS) - {"control"}))
def test_no_other_process_speaks_for_a_model_server(who: str) -> None:
    for method in ("in_process.pull", "in_process.record"):
        for params in ({}, {"endpoint": "vg://test.local/endpoint/digits"}):
            with pytest.raises(NotPermitted):
                asyncio.run(methods()[method](Peer(pid=1, uid=USERS.of(who), gid=1), params))
