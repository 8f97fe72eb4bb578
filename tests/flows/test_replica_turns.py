"""The PDP worker's long answers, in pieces: the same cells, and room for others between them."""

from __future__ import annotations

import asyncio

import pytest
from flows_world import BOB, DIGITS, FINGERPRINT, NOW, TD, registration
from test_facts import WORLD, Held

from vouchgate.flows import replica as module
from vouchgate.flows.changes import RegistrationPut
from vouchgate.flows.replica import Replica
from vouchgate.vocabulary.vouches import UnixMillis


def test_cells_in_pieces_are_the_same_and_let_others_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_SECONDS", 0.0)
    replica = Replica(TD, FINGERPRINT, lambda: UnixMillis(NOW))
    replica.facts = Held(*WORLD, RegistrationPut(registration=registration(BOB))).facts
    cells = [(DIGITS, BOB), (DIGITS, "spiffe://test.local/service/serve/nobody"), (DIGITS, BOB)]
    turns = 0

    async def story() -> object:
        nonlocal turns
        answering = asyncio.ensure_future(replica.cells_in_turn(cells))
        while not answering.done():
            turns += 1
            replica.facts.epoch += 1
            await asyncio.sleep(0)
        return answering.result()

    before = replica.facts.epoch
    expected = replica.cells(cells)["cells"]
    found = asyncio.run(story())
    assert isinstance(found, dict) and turns > len(cells)
    assert found["epoch"] <= before + 1, "what changed between counts as not seen"
    assert [len(one) for one in found["cells"]] == [len(one) for one in expected] and len(found["cells"][1]) == 0 < len(found["cells"][0])
