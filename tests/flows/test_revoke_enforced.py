"""What `revoke` says of its enforcement: a gateway that did not acknowledge, or is not even connected, goes on by its lease."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from vouchgate.flows.revoke import enforced
from vouchgate.vocabulary.names import TrustDomain
from vouchgate.vocabulary.places import Zone

NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    ("said", "outcomes"),
    [
        ({}, {"gateway": "expires-by-lease"}),
        ({"gateway": False}, {"gateway": "expires-by-lease"}),
        ({"gateway": True}, {"gateway": "enforced"}),
        ({"gateway": True, "second": False}, {"gateway": "enforced", "second": "expires-by-lease"}),
    ],
)
def test_each_point_is_told_with_what_holds_there(said: dict[str, bool], outcomes: dict[str, str]) -> None:
    class Points:
        async def wait_enforced(self, *, timeout: float) -> dict[str, bool]:
            return said

    zones = {"a": Zone(name="a", trust_domain=TrustDomain("test.local"), lease_seconds=7)}
    context = SimpleNamespace(points=Points(), clock=SimpleNamespace(now=lambda: NOW), facts=SimpleNamespace(zones=zones))
    made = asyncio.run(enforced(context, time.monotonic()))  # type: ignore[arg-type]
    assert {one.point: one.outcome for one in made} == outcomes
    assert all(one.at == NOW + 7_000 for one in made if one.outcome == "expires-by-lease")
