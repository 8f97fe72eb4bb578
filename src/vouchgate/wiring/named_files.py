"""The files that the settings name, read by the supervisor for processes that may not read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from vouchgate.ports import files
from vouchgate.vocabulary.layout import Layout, Users
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.settings_signers import files_of
from vouchgate.vocabulary.sources import MAX_SOURCE_BYTES
from vouchgate.vocabulary.wire import encode


def read_policies(settings: Settings) -> tuple[tuple[str, str], ...]:
    """(name, text) of the policy files that the settings name; the pack `ai_lifecycle` where they name none."""
    if not settings.policies:
        from vouchgate.policy.catalog import pack

        source = pack("ai_lifecycle")
        return ((source.name, source.text),)
    return tuple(
        (Path(one.path).name, files.read_small(Path(one.path), "policy file").decode("utf-8", "replace")) for one in settings.policies
    )


def read_applications(settings: Settings) -> tuple[Any, ...]:
    """The files of [[applications]], read and checked as a whole (`flows.applications.ApplicationFiles`). Raises `InvalidPolicy`, `InvalidInput`."""
    if not settings.applications:
        return ()
    from vouchgate.flows.applications import MAX_ENTITIES_BYTES, ApplicationFiles, compile_application

    def text(path: str, what: str, bound: int = 1024 * 1024) -> str:
        return files.read_small(Path(path), what, bound=bound).decode("utf-8", "replace")

    made = tuple(
        ApplicationFiles(
            name=one.name,
            schema=text(one.schema, f"schema of application `{one.name}`"),
            policies=tuple((Path(path).name, text(path, f"policies of application `{one.name}`")) for path in one.policies),
            entities=text(one.entities, f"entities of application `{one.name}`", MAX_ENTITIES_BYTES) if one.entities else "",
        )
        for one in settings.applications
    )
    for one in made:
        compile_application(one)
    return made


def save_applications(layout: Layout, applications: Sequence[Any], users: Users) -> None:
    """Hand them to the decision point: readable by it alone."""
    owner = users.of("pdp") if users.isolated else None
    files.write_atomic(layout.applications, encode(list(applications)), mode=0o600, owner=owner)


def load_applications(layout: Layout) -> tuple[int, list[Any]]:
    """What the supervisor wrote, with a number that changes when it does. Raises `InvalidInput`."""
    from vouchgate.flows.applications import ApplicationFiles

    if not layout.applications.exists():
        return 0, []
    at = layout.applications.stat().st_mtime_ns
    data = files.read_small(layout.applications, "applications file", bound=1024 * 1024 * 1024)
    return at, msgspec.json.decode(data, type=list[ApplicationFiles])


def read_source_keys(settings: Settings) -> dict[str, bytes]:
    """The key files of [[sts.sources]], by name."""
    return {one.name: files.read_small(Path(one.keys_file), "keys file") for one in settings.sts.sources if one.keys_file}


def read_bundles(settings: Settings) -> dict[str, bytes]:
    """Partner -> the bundle file that the settings name for it."""
    return {
        one.name: files.read_small(Path(one.bundle_file), f"bundle file of `{one.name}`", bound=MAX_SOURCE_BYTES)
        for one in settings.federation
        if one.bundle_file
    }


def read_signer_files(settings: Settings) -> dict[str, bytes]:
    """Path -> content of the files that [[signers]] and [[builders]] name."""
    return {path: files.read_small(Path(path), "signer's file") for path in files_of(settings.signers, settings.builders)}
