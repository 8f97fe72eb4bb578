"""What a person does about where the signer's keys lie, while vouchgate does not run: move them, change their passphrase, try a PIN again.

Each is one signer that does it and ends; what was refused is told with the signer's own words.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from vouchgate import wiring
from vouchgate.edges.processes.credentials import Ask, last_said, obtain, open_credential, run_signer, typed, typed_new
from vouchgate.edges.processes.signer_secret import WRONG_SECRET
from vouchgate.vocabulary.errors import Conflict, NotPermitted, Unavailable
from vouchgate.vocabulary.layout import Layout, Users
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.wire import decode

LIES = {"file": "file", "encrypted": "passphrase", "token": "pkcs11"}
"""The signer's place -> `[keys] place`."""


def move_keys(settings: Settings, *, generate: bool, old_passphrase: Path | None, ask: Ask) -> str:
    """Move the keys to where `[keys] place` says; where they lay. Raises `Conflict`, `NotPermitted`, `Unavailable`."""
    with _at_rest(settings) as (layout, users), contextlib.ExitStack() as open_now:
        lies = where(layout)
        if lies is None:
            raise Conflict("there are no keys to move", remedy="start vouchgate once with the settings that you want")
        old = _old(lies, old_passphrase, ask) if not generate else None
        new = _new(settings, layout, users, ask)
        for descriptor in (old, new):
            if descriptor is not None:
                open_now.callback(os.close, descriptor)
        more = ("--move-from", lies, *(("--generate",) if generate else ()))
        _done(layout, run_signer(settings, layout, users, *more, secret=new, old=old))
        return LIES[lies]


def change_passphrase(settings: Settings, *, old_passphrase: Path | None, new_passphrase: Path | None, ask: Ask) -> None:
    """Replace the passphrase. Raises `Conflict`, `NotPermitted`, `InvalidInput`, `Unavailable`."""
    with _at_rest(settings) as (layout, users), contextlib.ExitStack() as open_now:
        old = _old("encrypted", old_passphrase, ask)
        assert old is not None
        open_now.callback(os.close, old)
        new = open_credential(new_passphrase) if new_passphrase else typed_new(ask, "new passphrase for the signer's keys: ")
        open_now.callback(os.close, new)
        _done(layout, run_signer(settings, layout, users, "--change-passphrase", secret=new, old=old))


def try_pin(settings: Settings) -> None:
    """Let one PIN be tried again. Raises `Conflict`."""
    with _at_rest(settings) as (layout, users):
        _done(layout, run_signer(settings, layout, users, "--try-pin"))


def forget_passphrase(settings: Settings) -> None:
    """Empty the kernel's keyring: the next start asks again. Raises `Conflict`."""
    with _at_rest(settings) as (layout, users):
        _done(layout, run_signer(settings, layout, users, "--forget"))


def where(layout: Layout) -> str | None:
    """The signer's place on the disk, for whoever may read it; None before the first start. Raises `InvalidInput`."""
    keys = layout.signer / "keys"
    if (keys / "place.json").exists():
        return str(
            decode(dict[str, object], wiring.read_small(keys / "place.json", "place of the keys"), what="place of the keys")["place"]
        )
    return "file" if any(keys.glob("*.key")) else None


@contextlib.contextmanager
def _at_rest(settings: Settings) -> Iterator[tuple[Layout, Users]]:
    layout = Layout(Path(settings.data_dir))
    if not layout.signer.is_dir():
        raise Conflict(f"`{layout.data_dir}` holds no installation", remedy="start one with `vouchgate up`")
    tree = import_module("vouchgate.edges.processes.tree").Tree(settings, lambda _: None)
    tree.prepare()
    lock = wiring.lock_data_dir(layout)
    try:
        yield layout, tree.users
    finally:
        os.close(lock)


def _old(lies: str, named: Path | None, ask: Ask) -> int | None:
    if lies != "encrypted":
        return None
    return open_credential(named) if named else typed(ask, "passphrase that holds now: ")


def _new(settings: Settings, layout: Layout, users: Users, ask: Ask) -> int | None:
    if settings.keys.place in ("passphrase", "keyring") and not settings.keys.secret_file:
        return typed_new(ask, "new passphrase for the signer's keys: ")
    return obtain(settings, layout, users, ask)


def _done(layout: Layout, code: int) -> None:
    if code in (WRONG_SECRET, 1):
        raise NotPermitted(last_said(layout), remedy="nothing was changed; do it again")
    if code != 0:
        raise Unavailable(last_said(layout), remedy=f"nothing was changed; see {layout.logs / 'signer.jsonl'}")
