"""What opens the signer's keys, as a descriptor that is handed down: the supervisor carries it and never reads it.

Rules
1. A named file (systemd's LoadCredential makes such ones) is opened once, held to its mode and owner, and handed down as it is.
2. What a person types goes into a sealed memfd at once and its buffer is overwritten. From then on this process is undumpable. The memfd stays
   for as long as the tree runs, so that a signer that ended can be started again without that person.
3. A typed passphrase is tried `TRIES` times, on a signer that only opens its keys; a typed PIN once, because tokens lock themselves; a file
   once.
Left to others: opening anything with it (signer_place.py).
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

from vouchgate import wiring
from vouchgate.edges.processes.signer_secret import MAX_SECRET_BYTES, WRONG_SECRET, check_new, wipe
from vouchgate.edges.processes.withhold import withhold_memory
from vouchgate.flows.units import signer_spec
from vouchgate.vocabulary.errors import InvalidInput, NotFound, NotPermitted, Unavailable
from vouchgate.vocabulary.layout import Layout, Users
from vouchgate.vocabulary.settings import Settings

TRIES = 3
"""Times that a person may type a passphrase: a slip of a finger, not a search."""
CHECK_SECONDS = 30.0
"""The signer opens its keys in one to two."""
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

Ask = Callable[[str], bytearray | None]
"""Ask at the terminal, without showing what is typed; None where there is no terminal."""


def obtain(settings: Settings, layout: Layout, users: Users, ask: Ask) -> int | None:
    """The descriptor, or None where the keys open without. Raises `NotPermitted`, `NotFound`, `InvalidInput`."""
    keys = settings.keys
    if keys.place == "file":
        return None
    if keys.secret_file:
        return open_credential(Path(keys.secret_file))
    if not (layout.signer / "state.json").exists() and keys.place != "pkcs11":
        return typed_new(ask, "new passphrase for the signer's keys: ")
    if keys.place == "keyring" and opens(settings, layout, users, None) == "":
        return None
    if keys.place == "pkcs11":
        return typed(ask, f"PIN of the token `{keys.token}`: ")
    said = ""
    for _ in range(TRIES):
        secret = typed(ask, "passphrase of the signer's keys: ")
        said = opens(settings, layout, users, secret)
        if not said:
            return secret
        os.close(secret)
    raise NotPermitted(f"{said} ({TRIES} tries)", remedy="start it again with the right passphrase")


def opens(settings: Settings, layout: Layout, users: Users, secret: int | None) -> str:
    """Nothing where a signer opens its keys with it; else why the secret is wrong. Raises `Unavailable` for any other end."""
    code = run_signer(settings, layout, users, "--init-only", secret=secret)
    if code == 0:
        return ""
    said = last_said(layout)
    if code == WRONG_SECRET:
        return said
    raise Unavailable(f"the signer cannot open its keys: {said}", remedy=f"see {layout.logs / 'signer.jsonl'}")


def run_signer(settings: Settings, layout: Layout, users: Users, *more: str, secret: int | None = None, old: int | None = None) -> int:
    """A signer that does one thing and ends; its exit code."""
    spec = signer_spec(settings, layout, users, wiring.python, *more, secret=secret, old=old)
    code: int = wiring.start_process(spec, log=layout.logs / "signer.jsonl").wait(CHECK_SECONDS)
    return code


def last_said(layout: Layout) -> str:
    """The last line of the signer's log, which is why it ended."""
    return wiring.last_message(layout.logs / "signer.jsonl")


def open_credential(path: Path) -> int:
    """Rule 1. Raises `NotFound`, `NotPermitted`, `InvalidInput`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(
            f"there is no file `{path}`", remedy="write the passphrase or PIN into it, mode 0600, or leave the setting empty"
        ) from None
    except OSError as error:
        raise NotPermitted(f"`{path}` cannot be opened: {error.strerror}", remedy="name a regular file of yours") from None
    try:
        _hold(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _hold(facts: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid not in (0, os.geteuid()):
        raise NotPermitted(f"`{path}` is not a regular file of yours or of root", remedy="make it anew: install -m 600 /dev/null FILE")
    # systemd gives a service with a user of its own 0440, owned by root and root's group, and an access list
    open_to = 0o037 if facts.st_uid == facts.st_gid == 0 else 0o077
    if facts.st_mode & open_to:
        raise NotPermitted(
            f"`{path}` has mode {stat.S_IMODE(facts.st_mode):04o}: others may read it", remedy="change the secret, then chmod 0600 the file"
        )
    if not 0 < facts.st_size <= MAX_SECRET_BYTES + 2:
        raise InvalidInput(f"`{path}` is empty or has more than {MAX_SECRET_BYTES} bytes", remedy="write the secret alone into it")


def typed_new(ask: Ask, prompt: str) -> int:
    """A new passphrase, typed twice. Raises `InvalidInput` where it can be guessed, or the two differ."""
    first, again = _asked(ask, prompt), _asked(ask, "once more: ")
    try:
        check_new(first)
        if first != again:
            raise InvalidInput("the two are not the same", remedy="start again")
        return _kept(first)
    finally:
        wipe(first)
        wipe(again)


def typed(ask: Ask, prompt: str) -> int:
    """What a person types, behind a descriptor. Raises `NotPermitted` without a terminal."""
    secret = _asked(ask, prompt)
    try:
        return _kept(secret)
    finally:
        wipe(secret)


def _asked(ask: Ask, prompt: str) -> bytearray:
    secret = ask(prompt)
    if secret is None:
        raise NotPermitted(
            "the signer's keys are locked, and there is no terminal to ask at",
            remedy="set `[keys] passphrase_file` or `pin_file`, or start at a terminal",
        )
    if not secret:
        raise InvalidInput("nothing was typed", remedy="start again")
    return secret


def _kept(secret: bytearray) -> int:
    """Rule 2."""
    withhold_memory()
    descriptor = os.memfd_create("vouchgate-secret", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, secret)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor
