"""[keys]: where the signer's private keys lie. No passphrase and no PIN is a setting; a file that holds one is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from vouchgate.vocabulary.wire import Noun


class KeySettings(Noun, frozen=True, kw_only=True):
    """[keys]"""

    place: Annotated[
        Literal["file", "passphrase", "keyring", "pkcs11"],
        Meta(
            description="Where the signer's keys lie: file (0600), passphrase (encrypted files), keyring (the same, and the kernel keeps what "
            "opens them until the machine ends), pkcs11 (a token). `vouchgate admin move-keys` moves them after a change."
        ),
    ] = "file"
    passphrase_file: Annotated[
        str, Meta(description="A 0600 file that holds the passphrase, as systemd's LoadCredential makes one; empty: asked at the terminal.")
    ] = ""
    module: Annotated[str, Meta(description="pkcs11: path of the module, a shared library.")] = ""
    token: Annotated[str, Meta(max_length=32, description="pkcs11: label of the token.")] = ""
    pin_file: Annotated[str, Meta(description="pkcs11: a 0600 file that holds the PIN; empty: asked at the terminal.")] = ""
    module_environment: Annotated[
        dict[str, str], Meta(max_length=16, description="pkcs11: environment that the module needs; nothing secret belongs here.")
    ] = {}

    issuer_hours: Annotated[
        int,
        Meta(
            ge=48,
            le=2160,
            description="Life of the intermediate that signs certificates; replaced at half of it, which a leaf never outlives.",
        ),
    ] = 168

    @property
    def secret_file(self) -> str:
        """The file that holds what opens the keys, or nothing."""
        return {"file": "", "pkcs11": self.pin_file}.get(self.place, self.passphrase_file)


def check_keys(keys: KeySettings, no: Callable[..., Exception]) -> None:
    """Raise where the settings contradict themselves."""
    if keys.place == "pkcs11" and not (keys.module and keys.token):
        raise no(("keys", "place"), "pkcs11 needs `module` and `token`", "name the module's shared library and the token's label")
    for name in keys.module_environment:
        if "PIN" in name.upper() or "PASS" in name.upper():
            raise no(("keys", "module_environment"), f"`{name[:40]}` looks like a secret", "write the PIN into a file: `pin_file`")


def absolute_keys(keys: KeySettings, at: Callable[[str], str]) -> dict[str, Any]:
    """The paths, counted from the settings file."""
    module = at(keys.module) if "/" in keys.module else keys.module
    changed = msgspec.structs.replace(keys, passphrase_file=at(keys.passphrase_file), pin_file=at(keys.pin_file), module=module)
    return {"keys": changed}
