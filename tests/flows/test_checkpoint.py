"""Checkpoints: signed while the log grows, cosigned while the witness agrees, and honest about which."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flows_world import KEYS, NOW, TD, Remote, World, make_world, running

from vouchgate.audit.checkpoints import log_verifier, open_checkpoint, origin_of, require_cosignature
from vouchgate.edges.processes.witness import Witness
from vouchgate.flows.changes import SettingPut
from vouchgate.flows.checkpoint import Checkpoints
from vouchgate.vocabulary.errors import Conflict, Unavailable

ORIGIN = origin_of(TD, 0)
LOG_KEY = KEYS.ed25519["log"].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
WITNESS = Ed25519PrivateKey.generate()
WITNESS_KEY = WITNESS.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
NAME = "witness.test.local"


@contextlib.asynccontextmanager
async def kept(witnessed: bool = False, **methods: Any) -> AsyncIterator[tuple[World, Checkpoints]]:
    async with running(make_world(), publishing=False) as world:
        world.context.witness = Remote(methods)
        yield world, Checkpoints(world.context, ORIGIN, witness_name=NAME, witness_key=WITNESS_KEY if witnessed else b"")


async def until(check: Any) -> None:
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0.002)


def away(**_: Any) -> Any:
    raise Unavailable("the witness does not answer", remedy="start it")


def test_without_a_witness_each_growth_is_signed_once() -> None:
    async def go() -> None:
        async with kept() as (world, checkpoints):
            await checkpoints.make()
            size = world.store.size()
            head = open_checkpoint(world.store.latest_checkpoint(), log_verifier(ORIGIN, LOG_KEY))
            assert (checkpoints.signed_size, head.size) == (size, size)
            world.context.signer.calls.clear()
            await checkpoints.make()
            assert world.context.signer.calls == [], "nothing is new"
            await world.put(SettingPut(key="a", value="b"))
            await checkpoints.make()
            assert checkpoints.signed_size == size + 1
            assert (checkpoints.cosigned_size, checkpoints.trouble) == (0, "")

    asyncio.run(go())


def test_the_witness_cosigns_each_growth_also_for_a_control_plane_that_forgot_how_far_it_was(tmp_path: Path) -> None:
    log = log_verifier(ORIGIN, LOG_KEY)
    witness = Witness(tmp_path, log, lambda: NOW // 1000)

    def add(old_size: int, checkpoint: bytes, consistency_proof: list[bytes]) -> str:
        return witness.add_checkpoint(old_size, checkpoint, consistency_proof)

    async def go() -> None:
        async with kept(witnessed=True, add_checkpoint=add, latest=witness.latest) as (world, _):
            for _ in range(2):
                checkpoints = Checkpoints(world.context, ORIGIN, witness_name=witness.verifier.name, witness_key=witness.verifier.key)
                for number in range(3):
                    await checkpoints.make()
                    size = world.store.size()
                    assert (checkpoints.cosigned_size, checkpoints.signed_size, checkpoints.trouble) == (size, size, "")
                    assert require_cosignature(world.store.latest_checkpoint(), witness.verifier)
                    await world.put(SettingPut(key=f"k{number}", value="v"))

    asyncio.run(go())


def test_a_witness_that_is_away_is_trouble_that_stays_visible_and_stops_nothing() -> None:
    async def go() -> None:
        async with kept(witnessed=True, add_checkpoint=away, latest=away) as (world, checkpoints):
            task = asyncio.create_task(checkpoints.run(0.005))
            await until(lambda: "does not answer" in checkpoints.trouble and checkpoints.signed_size == world.store.size())
            calls = len(world.context.witness.calls)
            await until(lambda: len(world.context.witness.calls) > calls + 2)
            assert "does not answer" in checkpoints.trouble
            assert world.store.latest_checkpoint() is not None
            task.cancel()

    asyncio.run(go())


@pytest.mark.parametrize("latest", [away, lambda: b"not a checkpoint"])
def test_a_witness_that_contradicts_itself_stops_no_signing(latest: Any) -> None:
    def refuse(**_: Any) -> Any:
        raise Conflict("another size", remedy="ask")

    async def go() -> None:
        async with kept(witnessed=True, add_checkpoint=refuse, latest=latest) as (world, checkpoints):
            await checkpoints.make()
            assert checkpoints.signed_size == world.store.size()
            assert "does not continue" in checkpoints.trouble

    asyncio.run(go())


def test_a_witness_that_knows_a_longer_log_is_trouble() -> None:
    """The log was put back from an old backup: the witness must not be asked to forget."""

    async def go() -> None:
        async with kept() as (world, longer):
            for number in range(5):
                await world.put(SettingPut(key=f"k{number}", value="v"))
            await longer.make()
            note = world.store.latest_checkpoint()

        def refuse(**_: Any) -> Any:
            raise Conflict("another size", remedy="ask")

        async with kept(witnessed=True, add_checkpoint=refuse, latest=lambda: note) as (world, checkpoints):
            await checkpoints.make()
            assert "does not continue" in checkpoints.trouble
            assert checkpoints.cosigned_size == 0

    asyncio.run(go())


def test_a_signer_that_refuses_is_trouble_and_keeps_the_old_checkpoint() -> None:
    async def go() -> None:
        async with kept() as (world, checkpoints):
            await checkpoints.make()
            before = world.store.latest_checkpoint()
            await world.put(SettingPut(key="a", value="b"))
            world.context.signer.away = "the signer is gone"
            task = asyncio.create_task(checkpoints.run(0.005))
            await until(lambda: checkpoints.trouble == "the signer is gone")
            assert world.store.latest_checkpoint() == before
            world.context.signer.away = ""
            await until(lambda: checkpoints.trouble == "" and checkpoints.signed_size == world.store.size())
            task.cancel()

    asyncio.run(go())
