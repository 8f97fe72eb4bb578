"""Where a process finds its secrets: files of its uid, the kernel's keyring, a token."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vouchgate.ports import files, kernel_keyring
from vouchgate.vocabulary.layout import Layout

remember_secret = kernel_keyring.remember

recall_secret = kernel_keyring.recall

forget_secret = kernel_keyring.forget


def read_secret(path: Path) -> bytes:
    """A secret in a 0600 file of this process's uid. Raises `NotPermitted`, `Unavailable`."""
    from vouchgate.ports import secret_file

    return secret_file.read_secret(path)


def secrets_key(layout: Layout) -> bytes:
    """The key under which others' secrets lie in the store: 32 random bytes of the control plane's own folder, made once, in no backup."""
    path = layout.control / "secrets.key"
    if not path.exists():
        files.write_atomic(path, os.urandom(32), mode=0o600)
    return files.read_small(path, "key of the secrets", bound=32)


def token(module: str, label: str, pin: Callable[[], bytearray], refused: Callable[[str], None]) -> Any:
    """A PKCS #11 token, not yet opened; only the signer uses one, and only where the settings say so."""
    from vouchgate.ports.pkcs11 import Token

    return Token(module, label, pin, refused)
