"""The only place that reads settings and plugs storage and ports into flows.

What stands here: reading vouchgate.toml, deciding who runs as which uid, opening the store, and handing ports to edges as plain values. What
does not: any story (flows), any protocol (edges). Storage and Cedar are imported by whoever opens a store or reads a pack: most processes do
neither, and would hold them for nothing.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vouchgate.ports import artifact_trees, files, isolate, kernel_keyring, processes, scanner, sealed, tls
from vouchgate.ports.artifacts import ArtifactStore
from vouchgate.ports.clock import Clock
from vouchgate.ports.rpc import AsyncRpcClient, RpcClient
from vouchgate.vocabulary.answers_upkeep import BackupOutcome
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, InvalidSettings, Unavailable, Unsupported
from vouchgate.vocabulary.layout import NOBODY, Layout, Users
from vouchgate.vocabulary.processes import Folder
from vouchgate.vocabulary.settings import MAX_SETTINGS_BYTES, AgentSettings, Settings, host_port
from vouchgate.vocabulary.settings_authzen import absolute_applications
from vouchgate.vocabulary.settings_file import parse_settings
from vouchgate.vocabulary.settings_signers import files_of
from vouchgate.vocabulary.sources import MAX_SOURCE_BYTES
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun, decode, encode

if TYPE_CHECKING:
    from vouchgate.ports.http import HttpClient
    from vouchgate.protection.rotators import SqlAnswer, SqlAsk

MAX_SOCKET_BYTES = 107
"""Of a unix socket's path, without its terminating zero (unix(7))."""


def clock(floor: int = 0) -> Clock:
    """The process's clock, never below `floor` (Unix milliseconds of the last cosigned log time)."""
    return Clock(UnixMillis(floor))


# --- settings ---------------------------------------------------------------------------------------------------------------------


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


GUARD = "VOUCHGATE_GUARD_"


def guard_environment() -> dict[str, str]:
    """What the environment tells the load guard, by the last part of the names: `SOCKET`, `ENDPOINT` ..."""
    return {name.removeprefix(GUARD): value for name, value in os.environ.items() if name.startswith(GUARD)}


MLFLOW = "VOUCHGATE_MLFLOW_"


def mlflow_environment() -> dict[str, str]:
    """What the environment tells the gate in an MLflow server: `SOCKET`, `GUARD` ..."""
    return {name.removeprefix(MLFLOW): value for name, value in os.environ.items() if name.startswith(MLFLOW)}


def environment_says(name: str) -> bool:
    """Whether a switch of somebody else's program is on."""
    return os.environ.get(name, "").lower() in ("1", "true")


def before_python_path(folder: str) -> str:
    """PYTHONPATH with `folder` in front."""
    return os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH", ""))))


# --- the machine, for the supervisor ----------------------------------------------------------------------------------------------


def decide_users(settings: Settings) -> tuple[Users, str]:
    """(who runs as whom, why processes are not isolated, or nothing). Raises `Unsupported` where isolation is required and impossible."""
    own, wish = os.geteuid(), settings.processes.isolate
    why = "" if own == 0 else "this is not root"
    if wish == "off":
        return Users(base=None, own=own), "[processes] isolate is off"
    if why and wish == "require":
        raise Unsupported("[processes] isolate = `require`, but only root may start processes as other users", remedy="run as root")
    return Users(base=None if why else settings.uid_base, own=own), why


def reachable(settings: Settings, package: Path, interpreter_roots: Iterable[Path]) -> list[Path]:
    """Let other uids reach the interpreter, this package and the data directory; returns the folders that had to be covered."""
    wanted = [Path(settings.data_dir), package, *interpreter_roots]
    wanted += [Path(one.folder) for one in settings.endpoints if one.command]
    read = [Path(one.model) for one in settings.endpoints if one.model] + [Path(one.path) for one in settings.policies]
    root = Path(settings.root_dir)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return isolate.make_reachable([path for path in wanted if path.exists()], kept=[root, *(path for path in read if path.exists())])


def check_places(settings: Settings, layout: Layout) -> None:
    """Whether data_dir and root_dir can be what they are. Raises `InvalidSettings` naming the key."""
    sockets = [layout.control_socket, layout.ext_authz_socket, layout.supervisor_socket]
    sockets += [layout.upstream_socket(one.name) for one in settings.endpoints if one.command]
    longest = max(sockets, key=lambda path: len(bytes(path)))
    if len(bytes(longest)) > MAX_SOCKET_BYTES:
        raise InvalidSettings(
            f"`data_dir` is too long: the socket `{longest}` has {len(bytes(longest))} bytes, the system allows {MAX_SOCKET_BYTES}",
            remedy="set `data_dir` to a shorter path",
        )
    for key, path, mode in (("data_dir", Path(settings.data_dir), 0o711), ("root_dir", Path(settings.root_dir), 0o700)):
        there = next(one for one in (path, *path.parents) if one.exists())
        if not there.is_dir():
            raise InvalidSettings(f"`{key}` is `{path}`, but `{there}` is a file", remedy=f"set `{key}` to a folder, or move the file away")
        if not os.access(there, os.W_OK | os.X_OK):
            raise InvalidSettings(f"`{key}` is `{path}`, and you may not write in `{there}`", remedy=f"set `{key}` to a folder of yours")
        try:
            path.mkdir(mode=mode, parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidSettings(
                f"`{key}` is `{path}`, which cannot be made: {error.strerror}", remedy=f"set `{key}` to another"
            ) from None


make_folders = files.make_folders
write_atomic = files.write_atomic
read_small = files.read_small
free_bytes = files.free_bytes
python = processes.python
start_process = processes.start
sealed_copy = sealed.sealed_copy
server_tls = tls.server_context
peer_chain = tls.peer_chain


def token(module: str, label: str, pin: Callable[[], bytearray], refused: Callable[[str], None]) -> Any:
    """A PKCS #11 token, not yet opened; only the signer uses one, and only where the settings say so."""
    from vouchgate.ports.pkcs11 import Token

    return Token(module, label, pin, refused)


def last_message(log: Path) -> str:
    """The message of a log's last line."""
    lines = log.read_text("utf-8", "replace").strip().splitlines()[-1:] if log.exists() else []
    try:
        return str(json.loads(lines[0])["message"])[:1000]
    except (ValueError, KeyError, TypeError, IndexError):
        return lines[0][:1000] if lines else "nothing was logged"


remember_secret = kernel_keyring.remember
recall_secret = kernel_keyring.recall
forget_secret = kernel_keyring.forget


def rpc(path: Path, who: str, *, timeout: float = 5.0) -> RpcClient:
    """A blocking client of one of our processes."""
    return RpcClient(path, who, timeout=timeout)


def read_secret(path: Path) -> bytes:
    """A secret in a 0600 file of this process's uid. Raises `NotPermitted`, `Unavailable`."""
    from vouchgate.ports import secret_file

    return secret_file.read_secret(path)


def async_rpc(path: Path, who: str, *, timeout: float = 5.0) -> AsyncRpcClient:
    """An event-loop client of one of our processes."""
    return AsyncRpcClient(path, who, timeout=timeout)


def kernel() -> Any:
    """What the kernel says of the peer of a unix socket (ports/attest.py)."""
    from vouchgate.ports import attest

    return attest


class Looker:
    """Reads who processes are, one after the other in a thread of its own."""

    def __init__(self, agent: AgentSettings) -> None:
        from vouchgate.ports.attest import Collector

        self._collector = Collector(slurm=_slurm(agent))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="look")

    async def look(self, pids: list[int]) -> list[dict[str, dict[str, Any]] | None]:
        """What each process's attestors are to be given, or None where there is none of that number any more."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: [self._collector.look(pid) for pid in pids])


def _slurm(agent: AgentSettings) -> Callable[[Sequence[str]], dict[str, Any]] | None:
    """What Slurm says of a process, where there is one."""
    if not agent.slurm:
        return None
    from vouchgate.ports.slurm import Slurm

    token = read_secret(Path(agent.slurm_token_file)).decode("ascii", "replace").strip() if agent.slurm_token_file else ""
    return Slurm(agent.slurm, agent.slurm_node, user=agent.slurm_user, token=token, version=agent.slurm_version).facts


def lock_data_dir(layout: Layout) -> int:
    """Hold the data directory for this process tree. Raises `Conflict` where another one runs on it."""
    descriptor = os.open(layout.supervisor / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Conflict(
            f"vouchgate already runs on `{layout.data_dir}`", remedy="end the other one, or set another data_dir and other ports"
        ) from None
    return descriptor


def take_address(address: str, key: str) -> str:
    """`host:port` with a free port in the place of 0. Raises `Unavailable` naming the settings key where the port is taken."""
    if not address:
        return ""
    host, port = host_port(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Unavailable(
                f"{host}:{port} cannot be listened on: {error.strerror}", remedy=f"set `{key}` to a free address, or end what listens there"
            ) from None
        taken = probe.getsockname()[1]
    return f"[{host}]:{taken}" if ":" in host else f"{host}:{taken}"


def listening_socket(path: Path, *, owner: int) -> int:
    """A unix socket that listens on `path`, in a 0700 folder of `owner`; only `owner` (and root) can reach it."""
    files.make_folders([Folder(path=str(path.parent), mode=0o700, uid=owner, gid=owner)])
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listening.bind(str(path))
    if os.geteuid() == 0:
        os.chown(path, owner, owner)
    path.chmod(0o600)
    listening.listen(1024)
    return listening.detach()


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


def pem_chain(chain: Iterable[bytes]) -> str:
    """Certificates as PEM, in their order."""
    return "".join(ssl.DER_cert_to_PEM_cert(der) for der in chain)


def secrets_key(layout: Layout) -> bytes:
    """The key under which others' secrets lie in the store: 32 random bytes of the control plane's own folder, made once, in no backup."""
    path = layout.control / "secrets.key"
    if not path.exists():
        files.write_atomic(path, os.urandom(32), mode=0o600)
    return files.read_small(path, "key of the secrets", bound=32)


def http_client(destinations: Iterable[tuple[str, str, bool]], *, spiffe: tuple[list[bytes], str] | None = None) -> HttpClient:
    """A bounded way out to exactly these (origin, file of its authorities, whether it may be private). With `spiffe`, (authorities, SPIFFE
    id), a server proves itself by its SVID instead of its name."""
    from vouchgate.ports import http, spiffe_tls

    context = spiffe_tls.context(*spiffe) if spiffe is not None else None
    return http.HttpClient(http.Destination(http.origin_of(url), ca_file, private, context) for url, ca_file, private in destinations)


def sign_with_openbao(url: str, *, mount: str, namespace: str, token: str, csr_pem: str, hours: int, server_ca: str) -> str:
    """PEM chain of a CA that OpenBao's PKI engine signed, from a command's own process. Raises what `ports.openbao` raises."""
    from vouchgate.ports.openbao import sign_intermediate

    async def ask() -> str:
        client = http_client([(url, server_ca, True)])
        return await sign_intermediate(client, url, mount=mount, token=token, csr_pem=csr_pem, hours=hours, namespace=namespace)

    return asyncio.run(ask())


async def ask_sql(one: SqlAsk) -> SqlAnswer:
    """One statement at somebody else's database."""
    from vouchgate.ports import sql

    return await sql.ask(one)


def pem_certificates(text: bytes) -> list[bytes]:
    """The bytes of each certificate of a PEM file as they are, unparsed (RFC 7468, section 5). Raises `InvalidInput`."""
    blocks = re.findall(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]{1,200000})-----END CERTIFICATE-----", text)
    try:
        return [base64.b64decode(b"".join(block.split()), validate=True) for block in blocks]
    except ValueError:
        raise InvalidInput("the PEM file is not base64", remedy="name a file with `BEGIN CERTIFICATE`") from None


async def until(check: Any, *, seconds: float, what: str) -> Any:
    """Ask again every 20 ms until `check` answers something true. Raises `Unavailable` after `seconds`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        answer = await check()
        if answer:
            return answer
        if loop.time() > end:
            raise Unavailable(f"{what} within {seconds:.0f} s", remedy="see the logs in the data directory")
        await asyncio.sleep(0.02)


# --- the control plane ------------------------------------------------------------------------------------------------------------


def open_store(settings: Settings, layout: Layout) -> Any:
    """The store that the settings name, for writing. Raises `Conflict`, `Unavailable`, `StoreDamaged`, `Unsupported`."""
    from vouchgate.storage import opening

    if settings.store.engine == "postgres":
        dsn = f"postgresql:///{settings.store.database}?host={settings.store.socket}"
        return opening.open_postgres(dsn, settings.trust_domain)
    return opening.open_sqlite(layout.store, settings.trust_domain)


def log_generation(settings: Settings, layout: Layout) -> int:
    """How often a restore had to begin a new log."""
    if settings.store.engine == "postgres" or not layout.store.exists():
        return 0
    from vouchgate.storage import opening

    return opening.generation_of(layout.store, settings.trust_domain)


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


def artifact_store(settings: Settings, layout: Layout) -> ArtifactStore:
    """Admitted artifacts by digest."""
    mib = 1024 * 1024
    return ArtifactStore(layout.artifacts, max_bytes=settings.limits.import_mib * mib, reserve_bytes=settings.audit.disk_reserve_mib * mib)


def artifact_readers(settings: Settings) -> int | None:
    """Who may enter the content store (`Layout.folders`). Raises `InvalidSettings` for a group that this machine does not have."""
    named = settings.artifacts.readers
    return NOBODY if named == "nobody" else None if named == "everybody" else files.group_number(named)


def warm_scanner(*, uid: int | None = None, cache: Any = None, explain: bool = False) -> Any:
    """Reads artifacts in processes without network and keys (ports/scanner.py); blocks, and is to be closed."""
    return scanner.Scanner(uid=uid, cache=cache, explain=explain)


def scan_cache(folder: str, trust_root: int) -> Any:
    """Kept verdicts (ports/scan_cache.py); to be closed. Raises `InvalidInput`, `NotPermitted`."""
    from vouchgate.ports.scan_cache import ScanCache

    return ScanCache(folder, now=clock().now(), trust_root=trust_root)


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

    def said(*names: str) -> str:
        return next(filter(None, (os.environ.get(name, "") for name in names)), "")

    return S3Access(
        endpoint=remote.s3_endpoint or said("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        region=remote.s3_region or said("AWS_REGION", "AWS_DEFAULT_REGION") or DEFAULT_REGION,
        style=remote.s3_style,
        access_key=said("AWS_ACCESS_KEY_ID"),
        secret_key=said("AWS_SECRET_ACCESS_KEY"),
        token=said("AWS_SESSION_TOKEN"),
        ca_file=remote.ca_file,
        private=remote.private,
    )


def local_place(path: str) -> Any:
    """A file or folder of this machine, opened (ports/artifact_files.py). Raises `NotFound`, `InvalidInput`."""
    from vouchgate.ports.artifact_files import Place

    return Place(path)


folder_file = scanner.FolderFile


def stored_tree(path: Path) -> Any:
    """A folder of the store, staged or kept, by its manifest (ports/artifact_trees.py); to be closed. Raises `NotFound`, `StoreDamaged`."""
    return artifact_trees.open_tree(path)


def tree_files(tree: Any) -> list[scanner.FolderFile]:
    """Its files as the scanner takes them; the scanner's own digest says whether they are still what they were."""
    return [scanner.FolderFile(file.path, partial(tree.open_unchecked, file)) for file in tree.manifest.files]


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


def prover() -> Any:
    """What answers questions about policies, each in a process of its own; blocks."""
    from vouchgate.ports import prover as prover_port

    return prover_port


def back_up(layout: Layout, trust_domain: str, target: Path) -> BackupOutcome:
    """A consistent copy of the store."""
    from vouchgate.storage import backup as backups
    from vouchgate.storage import opening

    made = backups.backup(opening.read_sqlite(layout.store, trust_domain), target)
    digest = digest_of_file(target)
    return BackupOutcome(path=str(target), size=digest.size, digest=digest.text, log_size=made.size, epoch=made.epoch)


def digest_of_file(path: Path) -> Digest:
    """SHA-256 of a file, read once."""
    hashing, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(sealed.CHUNK_BYTES):
            hashing.update(chunk)
            size += len(chunk)
    return Digest(value=hashing.hexdigest(), size=size)


def put_back(
    settings: Settings, layout: Layout, backup: Path, log_key: bytes, *, known: bytes | None, since: list[bytes] | None, plan: bool
) -> Any:
    """Restore a backup over the store; with `plan` into a scratch folder that is thrown away. Returns storage's report."""
    from vouchgate.storage import backup as backups
    from vouchgate.storage import opening

    owner = layout.store.stat() if layout.store.exists() else None
    with tempfile.TemporaryDirectory(dir=layout.control, prefix=".plan-") as scratch:
        target = Path(scratch) / "store.db" if plan else layout.store
        if plan:
            opening.open_sqlite(target, settings.trust_domain).close()
        made = backups.restore(backup, target, settings.trust_domain, log_key, known_checkpoint=known, revocations_since=since)
    if not plan and owner is not None and os.geteuid() == 0:
        for path in layout.control.glob("store.db*"):
            os.chown(path, owner.st_uid, owner.st_gid)
    return made
