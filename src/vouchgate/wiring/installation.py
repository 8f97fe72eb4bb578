"""The settings: read by whoever starts the tree, resolved, and handed to the processes of the tree as an `Installation`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from vouchgate.ports import files
from vouchgate.vocabulary.errors import InvalidSettings
from vouchgate.vocabulary.layout import Layout, Users
from vouchgate.vocabulary.settings import MAX_SETTINGS_BYTES, Settings
from vouchgate.vocabulary.settings_authzen import absolute_applications
from vouchgate.vocabulary.settings_file import parse_settings
from vouchgate.vocabulary.wire import Noun, decode, encode


def read_settings(path: Path) -> Settings:
    """vouchgate.toml with every path made absolute, relative ones counted from the file. Raises `InvalidSettings`."""
    if not path.exists():
        raise InvalidSettings(f"there is no settings file `{path}`", remedy="write one with `vouchgate init`, or name it with --config")
    text = files.read_small(path, "settings file", bound=MAX_SETTINGS_BYTES).decode("utf-8", "replace")
    settings = parse_settings(text, path)
    base = path.resolve().parent

    def absolute(text: str) -> str:
        return str((base / text).resolve()) if text else ""

    return msgspec.structs.replace(
        settings,
        data_dir=absolute(settings.data_dir),
        root_dir=absolute(settings.root_dir),
        policies=tuple(msgspec.structs.replace(one, path=absolute(one.path)) for one in settings.policies),
        applications=absolute_applications(settings.applications, absolute),
        endpoints=tuple(
            msgspec.structs.replace(one, model=absolute(one.model), folder=absolute(one.folder) if one.folder else str(base))
            for one in settings.endpoints
        ),
    )


class Installation(Noun, frozen=True, kw_only=True):
    """What the supervisor tells the processes of its tree: the settings as resolved, and what only it knows."""

    settings: Settings
    fingerprint: str
    """Pinned fingerprint of the root keys."""
    isolated: bool
    users: Users
    gateway: str
    """Address on which the gateway listens now."""
    plain: str = ""
    console: str = ""
    sts: str = ""
    """Address of the token service."""
    authzen: str = ""
    """Address of the AuthZEN listener."""
    log_key: str
    """The log's public key, hexadecimal."""
    witness_name: str = ""
    witness_key: str = ""
    """Witness's public key, hexadecimal."""
    signed_root: bytes
    """Signed TrustRoot."""
    bootstrap: str = ""
    """Hash and end of the bootstrap token, until it is used."""
    policies: tuple[tuple[str, str], ...] = ()
    """(name, text) of the policy files, read by the supervisor."""
    source_keys: dict[str, bytes] = {}
    """[[sts.sources]] by name: the keys file, read by the supervisor."""
    bundles: dict[str, bytes] = {}
    """Partner -> its `bundle_file`, read by the supervisor."""
    signer_files: dict[str, bytes] = {}
    """Path -> content of the files of [[signers]] and [[builders]], read by the supervisor."""


def save_installation(layout: Layout, installation: Installation, users: Users) -> None:
    """Hand the installation to the processes: readable by all of them, writable by none."""
    files.write_atomic(layout.marker, encode(installation), mode=0o644)


def load_installation(data_dir: Path) -> Installation:
    """What the supervisor wrote. Raises `InvalidInput`."""
    data = files.read_small(Layout(data_dir).marker, "installation file", bound=16 * 1024 * 1024)
    return decode(Installation, data, what="installation file")


def newest_settings(data_dir: Path) -> Callable[[], Settings]:
    """The settings as of the last reload, for a process that nobody tells of it; read anew when the file is another."""
    marker, known = Layout(data_dir).marker, dict[tuple[int, int], Settings]()

    def read() -> Settings:
        facts = marker.stat()
        version = facts.st_ino, facts.st_mtime_ns
        if version not in known:
            fresh = load_installation(data_dir).settings
            known.clear()
            known[version] = fresh
        return known[version]

    return read
