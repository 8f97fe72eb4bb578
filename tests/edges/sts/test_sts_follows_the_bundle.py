"""The token service renews its certificate and bundle when a CA comes or goes, not only at half of its certificate's life."""

from __future__ import annotations

import asyncio

import pytest

from vouchgate.edges.processes.sts import until_due
from vouchgate.vocabulary.errors import Unavailable


class Control:
    """Answers with one bundle after the other; the last one stays."""

    def __init__(self, *bundles: bytes) -> None:
        self.bundles, self.asked = list(bundles), 0

    async def call(self, method: str, /, **_: object) -> bytes:
        assert method == "sts.bundle"
        self.asked += 1
        if not self.bundles:
            raise Unavailable("gone", remedy="wait")
        return self.bundles.pop(0) if len(self.bundles) > 1 else self.bundles[0]


def test_another_bundle_ends_the_wait():
    control = Control(b"one", b"one", b"two")
    asyncio.run(until_due(control, 1000, look=0.001))
    assert control.asked == 3


def test_the_time_ends_the_wait():
    control = Control(b"one")
    asyncio.run(until_due(control, 0.005, look=0.001))
    assert 4 <= control.asked <= 7


def test_a_control_plane_that_is_gone_is_asked_again_by_the_caller():
    with pytest.raises(Unavailable):
        asyncio.run(until_due(Control(), 1, look=0.001))
