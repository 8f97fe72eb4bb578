"""What the command line does on this machine itself: `up`, `init`, `scan`, `disarm`, and (maintenance.py) `doctor` and `restore`.

What only `init` and `scan` need is imported there: the process of `up` lives as long as the tree.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import vouchgate
from vouchgate import wiring
from vouchgate.edges.processes import extras
from vouchgate.edges.processes.announce import announce
from vouchgate.edges.processes.credentials import Ask, obtain, run_signer
from vouchgate.edges.processes.key_acts import change_passphrase, forget_passphrase, move_keys, try_pin
from vouchgate.edges.processes.local_folder import folder
from vouchgate.edges.processes.local_scan import allowances, now, scan, scan_settings
from vouchgate.edges.processes.maintenance import doctor, restore, supported
from vouchgate.evidence.trustroot import verify_trust_root
from vouchgate.flows.units import signer_spec
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.answers_upkeep import InitOutcome
from vouchgate.vocabulary.errors import Conflict, Unavailable, Unsupported
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.trust import SignedTrustRoot, TrustRoot
from vouchgate.vocabulary.vouches import UnixMillis

__all__ = [
    "allowances", "change_passphrase", "disarm", "doctor", "folder", "forget_passphrase", "init", "move_keys", "now", "renew_ca", "renew_trust", "restore", "scan", "scan_settings", "try_pin", "up",
]  # fmt: skip


def _tree() -> ModuleType:
    """The process tree's module, which needs the extra `gateway`. Raises `Unsupported` where that is not installed."""
    try:
        return import_module("vouchgate.edges.processes.tree")
    except ModuleNotFoundError as error:
        raise Unsupported(f"the gateway is not installed: no module `{error.name}`", remedy="pip install 'vouchgate[gateway]'") from None


def up(settings: Settings, path: Path, ask: Ask) -> int:
    """Run the process tree in the foreground until it is ended; `path` is the settings file, read again on SIGHUP; `ask` asks for what opens
    the signer's keys. Returns the exit code."""

    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    platform = supported()
    if platform.state != "ok":
        raise Unsupported(platform.detail, remedy=platform.remedy)
    extras.check(settings)
    say(f"vouchgate {vouchgate.__version__}, trust domain {settings.trust_domain}")
    tree = _tree().Tree(settings, say, read=lambda: wiring.read_settings(path))
    if tree.why_shared:
        say(f"  processes are not isolated from each other: {tree.why_shared}")
    tree.secret = _secret(tree, ask)
    code: int = asyncio.run(tree.run(lambda one: announce(one, say)))
    say("ended")
    return code


def _secret(tree: Any, ask: Ask) -> int | None:
    """What opens the signer's keys, before anything is started."""
    if tree.settings.keys.place == "file":
        return None
    tree.prepare()
    lock = wiring.lock_data_dir(tree.layout)
    try:
        return obtain(tree.settings, tree.layout, tree.users, ask)
    finally:
        os.close(lock)


def renew_ca(settings: Settings, ask: Ask) -> None:
    """A new certificate for the CA's key, made by the signer; the next start publishes it.

    Raises `Conflict` while vouchgate runs on the data directory, `Unavailable` where the signer cannot do it.
    """
    layout = Layout(Path(settings.data_dir))
    if not layout.trust_root.exists():
        raise Conflict(f"`{layout.data_dir}` holds no installation", remedy="start one with `vouchgate up`")
    tree = _tree().Tree(settings, lambda _: None)
    secret = _secret(tree, ask)
    tree.prepare()
    lock = wiring.lock_data_dir(layout)
    try:
        log = layout.logs / "signer.jsonl"
        if run_signer(settings, layout, tree.users, "--renew-ca", "--init-only", secret=secret) != 0:
            raise Unavailable("the signer did not renew the CA's certificate", remedy=f"see {log}")
    finally:
        os.close(lock)


def renew_trust(
    settings: Settings, root_key: Path, ask: Ask, *, producers: Sequence[tuple[str, Path]] = (), dropped: Sequence[str] = ()
) -> InitOutcome:
    """Sign the next TrustRoot with the offline root key, for the keys that the signer has now and those of producers outside; the next start
    adopts it.

    Raises `Conflict` while vouchgate runs on the data directory, `Unverified` where the key is not one of the roots.
    """
    from vouchgate.flows import initialise

    layout = Layout(Path(settings.data_dir))
    before = wire.decode(SignedTrustRoot, wiring.read_small(layout.trust_root, "TrustRoot"), what="TrustRoot")
    outside = [initialise.producer_key(role, wiring.read_small(path, "producer's key")) for role, path in producers]
    tree = _tree().Tree(settings, lambda _: None)
    secret = _secret(tree, ask)

    async def make() -> SignedTrustRoot:
        tree.prepare()
        lock = wiring.lock_data_dir(layout)
        try:
            tree.add(signer_spec(settings, layout, tree.users, wiring.python, secret=secret), "signer")
            keys = await tree.signer_keys()
            now = wiring.clock().now()
            following = initialise.next_trust_root(
                wire.decode(TrustRoot, before.payload, what="TrustRoot"), keys=keys, now=now, producers=outside, dropped=dropped
            )
            signed = initialise.sign_with(following, [wiring.read_small(root_key, "root key")])
            verify_trust_root(signed, initialise.fingerprint_of(before), now, current=before)
            wiring.write_atomic(layout.trust_root, wire.encode(signed), mode=0o644)
            return signed
        finally:
            tree.supervisor.stop()
            os.close(lock)

    signed = asyncio.run(make())
    return InitOutcome(
        settings="",
        data_dir=settings.data_dir,
        root_dir=settings.root_dir,
        root_fingerprint=initialise.fingerprint_of(signed),
        solo=settings.solo,
    )


def init(settings: Settings, path: Path, ask: Ask) -> InitOutcome:
    """Keys and TrustRoot, without leaving anything running. Raises `Conflict` where there is an installation."""
    from vouchgate.flows import initialise

    layout = Layout(Path(settings.data_dir))
    if layout.trust_root.exists():
        raise Conflict(f"`{layout.data_dir}` holds an installation", remedy="start it with `vouchgate up`, or choose another data_dir")
    lines: list[str] = []
    module = _tree()
    tree = module.Tree(settings, lines.append)
    secret = _secret(tree, ask)

    async def make() -> tuple[SignedTrustRoot, str]:
        tree.prepare()
        lock = wiring.lock_data_dir(layout)
        try:
            tree.add(signer_spec(settings, layout, tree.users, wiring.python, secret=secret), "signer")
            return module.first_trust(  # type: ignore[no-any-return]
                settings, layout, tree.users, await tree.signer_keys(), tree.say
            )
        finally:
            tree.supervisor.stop()
            os.close(lock)

    signed, kept = asyncio.run(make())
    token = next((line.rpartition(" ")[2] for line in lines if "admin claim" in line), "")
    return InitOutcome(
        settings=str(path),
        data_dir=settings.data_dir,
        root_dir=settings.root_dir,
        root_fingerprint=initialise.fingerprint_of(signed),
        bootstrap_token=token,
        bootstrap_until=UnixMillis(int(kept.rpartition(" ")[2] or 0)),
        solo=settings.solo,
    )


def disarm(path: Path, out: Path, *, bits: int = 0, target: str = "", report: Path | None = None) -> Any:
    """Rebuild an artifact in the disarming process; `report` is where the answer is also written."""
    from vouchgate.flows import disarm_artifact

    desk = wiring.disarm_desk()
    try:
        answer = disarm_artifact.disarm(desk, path, out, bits=bits, target=target)
    finally:
        desk.close()
    if report is not None:
        wiring.write_report(report, wire.encode(answer))
    return answer
