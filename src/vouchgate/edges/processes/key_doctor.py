"""What `doctor` says about where the signer's keys lie: the settings beside the disk, and whether what opens them is there."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from vouchgate.edges.processes.credentials import open_credential
from vouchgate.edges.processes.key_acts import LIES, where
from vouchgate.vocabulary.answers_upkeep import DoctorCheck
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.settings import Settings


def look_at_keys(settings: Settings) -> DoctorCheck:
    """One finding: the worst."""
    layout, keys = Layout(Path(settings.data_dir)), settings.keys
    try:
        lies = where(layout)
    except (OSError, VouchgateError):
        return _found("warning", "you may not see where the signer's keys lie", "run `vouchgate doctor` as root")
    if lies is not None and LIES[lies] != keys.place and (LIES[lies], keys.place) != ("passphrase", "keyring"):
        return _found("failed", f"they lie in place `{LIES[lies]}`, the settings say `{keys.place}`", "vouchgate admin move-keys")
    if keys.secret_file:
        try:
            os.close(open_credential(Path(keys.secret_file)))
        except VouchgateError as error:
            return _found("failed", error.reason, error.remedy)
    if keys.place == "pkcs11":
        return _token(settings, layout)
    if keys.place == "file":
        return _found("ok", "in files, 0600: a copy of the disk is a copy of the keys; `[keys] place` names the other places")
    opened = f"`{keys.secret_file}`" if keys.secret_file else "a person at the terminal"
    kept = ", once in the machine's life" if keys.place == "keyring" else ""
    return _found("ok", f"in files under a passphrase; {opened} opens them{kept}")


def _token(settings: Settings, layout: Layout) -> DoctorCheck:
    keys = settings.keys
    if importlib.util.find_spec("pkcs11") is None:
        return _found("failed", "python-pkcs11 is not installed", "pip install 'vouchgate[hsm]'")
    if not Path(keys.module).is_file():
        return _found("failed", f"there is no PKCS #11 module `{keys.module}`", "set `[keys] module`")
    if (layout.signer / "pin-refused").exists():
        return _found("failed", "the token refused a PIN, so none is tried", "correct the PIN, then `vouchgate admin try-pin`")
    beside = any((layout.signer / "keys").glob("*.tsealed"))
    rest = "; Ed25519 keys lie in files that only the token opens, because it makes none" if beside else ""
    return _found("ok", f"in the token `{keys.token}`{rest}")


def _found(state: str, detail: str, remedy: str = "") -> DoctorCheck:
    return DoctorCheck(name="keys", state=state, detail=detail, remedy=remedy)  # type: ignore[arg-type]
