"""Artifacts: where they lie, what reads them, and what rebuilds them."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vouchgate.ports import artifact_trees, files, scanner, sealed
from vouchgate.ports.artifacts import ArtifactStore
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.layout import Layout, Users
from vouchgate.vocabulary.settings import Settings
from vouchgate.wiring.surroundings import clock, first_said


def artifact_store(settings: Settings, layout: Layout) -> ArtifactStore:
    """Admitted artifacts by digest."""
    mib = 1024 * 1024
    return ArtifactStore(layout.artifacts, max_bytes=settings.limits.import_mib * mib, reserve_bytes=settings.audit.disk_reserve_mib * mib)


sealed_copy = sealed.sealed_copy


@dataclass(frozen=True)
class StagedCopy:
    """A private copy of a file in the control plane's staging folder."""

    name: str
    digest: Digest


def stage_file(layout: Layout, source: Path, users: Users) -> StagedCopy:
    """Copy a file into the staging folder for the control plane to take in."""
    descriptor, digest = sealed.sealed_copy(source)
    name = os.urandom(16).hex()
    target = layout.staging / name
    try:
        with os.fdopen(descriptor, "rb") as stream, target.open("xb") as out:
            stream.seek(0)
            shutil.copyfileobj(stream, out, sealed.CHUNK_BYTES)
            os.fchmod(out.fileno(), 0o600)
            if os.geteuid() == 0:
                os.fchown(out.fileno(), users.of("control"), users.of("control"))
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return StagedCopy(name, digest)


folder_file = scanner.FolderFile


def stored_tree(path: Path) -> Any:
    """A folder of the store, staged or kept, by its manifest (ports/artifact_trees.py); to be closed. Raises `NotFound`, `StoreDamaged`."""
    return artifact_trees.open_tree(path)


def tree_files(tree: Any) -> list[scanner.FolderFile]:
    """Its files as the scanner takes them; the scanner's own digest says whether they are still what they were."""
    return [scanner.FolderFile(file.path, partial(tree.open_unchecked, file)) for file in tree.manifest.files]


def local_place(path: str) -> Any:
    """A file or folder of this machine, opened (ports/artifact_files.py). Raises `NotFound`, `InvalidInput`."""
    from vouchgate.ports.artifact_files import Place

    return Place(path)


def scan_place(path: str) -> Any:
    """A path to scan, opened, or an address, asked; to be closed. Raises `NotFound` and what asking raises."""
    from vouchgate.flows.scan_artifacts import Remote

    return _place(path, Remote(), deep=True)


def opened_place(path: str, remote: Any, *, deep: bool) -> Any:
    """`scan_place` as a context, asked as `remote` (flows/scan_artifacts.py) says. Raises as that."""
    return closing(_place(path, remote, deep=deep))


def _place(path: str, remote: Any, *, deep: bool) -> Any:
    """ports/artifact_files.py, ports/remote_artifacts.py, ports/s3_artifacts.py; the last two are loaded only where they are wanted."""
    if "://" not in path:
        return local_place(path)
    from vouchgate.ports.remote_artifacts import RemotePlace, is_remote
    from vouchgate.ports.s3_artifacts import S3Place

    if not is_remote(path):
        return local_place(path)
    if path.startswith("s3://"):
        return S3Place(path, _s3_access(remote), now=clock().now, whole=deep, fetched=remote.fetched)
    return RemotePlace(path, ca_file=remote.ca_file, private=remote.private, whole=deep, fetched=remote.fetched)


def _s3_access(remote: Any) -> Any:
    """What was said, then what the environment says by the names that AWS's own tools read."""
    from vouchgate.ports.s3_artifacts import DEFAULT_REGION, S3Access

    return S3Access(
        endpoint=remote.s3_endpoint or first_said("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        region=remote.s3_region or first_said("AWS_REGION", "AWS_DEFAULT_REGION") or DEFAULT_REGION,
        style=remote.s3_style,
        access_key=first_said("AWS_ACCESS_KEY_ID"),
        secret_key=first_said("AWS_SECRET_ACCESS_KEY"),
        token=first_said("AWS_SESSION_TOKEN"),
        ca_file=remote.ca_file,
        private=remote.private,
    )


def warm_scanner(*, uid: int | None = None, cache: Any = None, explain: bool = False) -> Any:
    """Reads artifacts in processes without network and keys (ports/scanner.py); blocks, and is to be closed."""
    return scanner.Scanner(uid=uid, cache=cache, explain=explain)


def scan_cache(folder: str, trust_root: int) -> Any:
    """Kept verdicts (ports/scan_cache.py); to be closed. Raises `InvalidInput`, `NotPermitted`."""
    from vouchgate.ports.scan_cache import ScanCache

    return ScanCache(folder, now=clock().now(), trust_root=trust_root)


def disarm_desk() -> Any:
    """What rebuilding an artifact is plugged into; the desk of flows/disarm_artifact.py."""
    from vouchgate.flows.disarm_artifact import Desk as DisarmDesk
    from vouchgate.ports import disarmer, outputs

    def rebuild(
        artifact: tuple[int, ...], names: tuple[str, ...], others: tuple[str, ...], output: int, again: int, sidecar: int, *how: Any
    ) -> Any:
        files = disarmer.Files(artifact=artifact, output=output, output_again=again, sidecar=sidecar, names=names, others=others)
        target, bits, key, written = how
        return disarmer.rebuild(files, target=target, bits=bits, key=key, written=written)

    process = scanner.Scanner()

    def warm() -> None:
        descriptor = os.memfd_create("warm")
        try:
            os.write(descriptor, b"{}")
            process.scan_file(descriptor)
        finally:
            os.close(descriptor)

    return DisarmDesk(
        open_place=local_place,
        same_file=outputs.same_file,
        open_output=outputs.Output,
        rebuild=rebuild,
        scan=lambda descriptor, name: process.scan_file(descriptor, name=name),
        warm=warm,
        close=process.close,
        digest=outputs.digest_of,
        draw_key=secrets.token_bytes,
    )


def write_report(path: Path, data: bytes) -> None:
    """A report for people and tools, whole or not at all."""
    files.write_atomic(path, data, mode=0o644)
