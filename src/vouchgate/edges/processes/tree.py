"""The process tree that `vouchgate up` runs in the foreground.

Starting, in this order
1. Who runs as whom; a private mount namespace where a closed home is in the way; one process tree per data directory.
2. The signer. On the first start it makes its keys, the root keys are made outside the data directory, and the first TrustRoot is signed.
3. The witness. 4. Addresses are taken, the installation file is written. 5. Control plane, PDP worker, gateway and tailer, side by side.
6. Models: imported, sealed, handed to their servers; each server is vouched for as long as it lives.
Ending (Ctrl-C, SIGTERM): the gateway first, the signer last.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

import vouchgate
from vouchgate import wiring
from vouchgate.audit.checkpoints import origin_of
from vouchgate.edges.envoy.access_log import fetch_counters
from vouchgate.edges.envoy.bootstrap import bootstrap, envoy_binary, flags
from vouchgate.edges.processes.admin_pipe import read_back_handler
from vouchgate.edges.processes.first_trust import first_trust
from vouchgate.edges.processes.gateway_settings import gateway_settings
from vouchgate.edges.processes.rpc_server import Handler, Peer, serve
from vouchgate.edges.processes.stored_scans import StoredScans
from vouchgate.evidence.trustroot import fingerprint
from vouchgate.flows.supervise import Supervisor, Unit
from vouchgate.flows.units import RANKS, SERVES_SECONDS, core_specs, needs_sts, server_spec, signer_spec, sts_spec
from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.answers import ImportOutcome, ProcessState, Readiness
from vouchgate.vocabulary.digests import parse_digest
from vouchgate.vocabulary.errors import Conflict, Unavailable, VouchgateError
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.processes import Spec
from vouchgate.vocabulary.settings import EndpointSettings, Settings
from vouchgate.vocabulary.trust import PublicKey, SignedTrustRoot, TrustRoot
from vouchgate.vocabulary.vouches import UnixMillis

START_SECONDS = 15.0
"""A process that has not answered by then will not."""
FIXED = (
    "trust_domain",
    "data_dir",
    "root_dir",
    "uid_base",
    "solo",
    "gateway",
    "console",
    "authzen",
    "processes",
    "store",
    "keys",
    "oidc",
    "ssf",
    "sts",
)
"""Settings that a reload cannot change."""
MAX_ACCESS_LOG_BYTES = 256 * 1024 * 1024
"""Bytes after which a new access log begins; everything in it is in the audit log by then."""
LOOK_AT_COUNTERS_SECONDS = 10.0
"""Seconds between comparisons of the gateway's counters with its log."""
REPORT_SECONDS = 0.5
"""Seconds between tries to have the log say that the gateway was killed."""
LOST_MILLISECONDS = 200
"""What a killed gateway may not have written: its flush interval of 100 ms, and the pause until its end is seen."""

Say = Callable[[str], None]


@dataclass
class Serving:
    """One model server that we started."""

    endpoint: EndpointSettings
    digest: str
    tier: str
    observed: str
    unit: str


class Tree:
    """One running installation. `read` gives the settings anew, for SIGHUP."""

    def __init__(self, settings: Settings, say: Say, *, read: Callable[[], Settings] | None = None) -> None:
        self.settings, self.say = settings, say
        self._read = read
        self.layout = Layout(Path(settings.data_dir))
        self.users, self.why_shared = wiring.decide_users(settings)
        self.supervisor = Supervisor(self._start, self._tell)
        self.serving: list[Serving] = []
        self.servers = 0
        self.stop = asyncio.Event()
        self.looker = wiring.Looker(settings.agent)
        self._scans = StoredScans(self.layout, self.users)
        self.installation: wiring.Installation | None = None
        self.secret: int | None = None
        """Descriptor of what opens the signer's keys, handed down at each of its starts."""
        self.ready_after = 0.0
        self.gateway_ends: list[tuple[int, str]] = []
        """(since, why) of ends of the gateway that the log does not know yet."""

    def _start(self, spec: Spec) -> Any:
        return wiring.start_process(spec, log=self.layout.logs / f"{spec.name}.jsonl")

    def _tell(self, name: str, happened: str, number: int) -> None:
        if name == "gateway" and happened != "not started":
            self._note_gateway(happened, number)
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "unit": name, "happened": happened, "number": number}
        # a full disk or a closed terminal ends no process
        with contextlib.suppress(OSError):
            with (self.layout.logs / "supervisor.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            if happened == "ended" and not self.stop.is_set():
                self.say(f"  {name} ended ({number}); it is started again")
            if happened == "not started":
                self.say(f"  {name} cannot be started: {os.strerror(number)}; it is tried again")

    def _note_gateway(self, happened: str, number: int) -> None:
        """A gateway that ends other than by itself may take its last lines along; `running` outlives this process, so that its end shows too."""
        running = self.layout.supervisor / "gateway-running"
        if happened == "ended" and number != 0:
            self.gateway_ends.append((_wall() - LOST_MILLISECONDS, f"it ended with {number}"))
        elif happened == "started" and not self.gateway_ends and running.exists():
            self.gateway_ends.append((int(running.stat().st_mtime * 1000), "vouchgate itself was killed"))
        with contextlib.suppress(OSError):
            running.unlink(missing_ok=True) if happened == "ended" else running.touch()

    def add(self, spec: Spec, rank: str) -> None:
        """Start a process and keep it running."""
        self.supervisor.add(spec.name, Unit(lambda: spec, rank=RANKS[rank]))

    # -- starting

    async def run(self, announce: Callable[[Tree], None]) -> int:
        """Steps 1 to 6, then tend the tree until told to stop."""
        begun = time.monotonic()
        self.prepare()
        lock = wiring.lock_data_dir(self.layout)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop.set)
        tending: asyncio.Task[None] | None = None
        try:
            signer = signer_spec(self.settings, self.layout, self.users, wiring.python, secret=self.secret)
            self.add(signer, "signer")
            tending = asyncio.create_task(self.supervisor.run(self.stop))
            keys = await self.signer_keys()
            signed, token = first_trust(self.settings, self.layout, self.users, keys, self.say)
            await self._start_core(keys, signed, token)
            frames = await serve(self.layout.supervisor_socket, self._handlers(), allowed_uids={self.users.of("control"), self.users.own})
            await self._until_ready("the control plane")
            await self._start_servers(self.settings.endpoints)
            await self._until_ready("everything", ready=True)
            self.ready_after = time.monotonic() - begun
            announce(self)
            beside: list[asyncio.Task[None]] = []
            loop.add_signal_handler(signal.SIGHUP, lambda: beside.append(asyncio.create_task(self._reload())))
            beside += [
                asyncio.create_task(self._renew_vouches()),
                asyncio.create_task(self._compare_counters()),
                asyncio.create_task(self._report_gateway()),
                asyncio.create_task(self._rotate()),
            ]
            await tending
            if self.supervisor.units["gateway"].last_exit == 0:
                (self.layout.supervisor / "gateway-running").unlink(missing_ok=True)
            frames.close()
            for task in beside:
                task.cancel()
        except BaseException:
            self.stop.set()
            if tending is not None:
                await tending
            raise
        finally:
            os.close(lock)
        return 0

    def prepare(self) -> None:
        """Step 1."""
        wiring.check_places(self.settings, self.layout)
        package = Path(vouchgate.__file__).resolve().parent
        if self.users.isolated:
            self.layout.data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
            roots = [Path(sys.base_prefix), Path(sys.prefix), Path.cwd()]
            wiring.reachable(self.settings, package, roots)
        wiring.make_folders(self.layout.folders(self.users, readers=wiring.artifact_readers(self.settings)))

    async def signer_keys(self) -> list[PublicKey]:
        """The signer's public keys, once it answers."""
        client = wiring.async_rpc(self.layout.signer_socket, "signer")

        async def ask() -> Any:
            self._check_alive("signer")
            with contextlib.suppress(VouchgateError):
                return await client.call("public_keys")
            return None

        said = await wiring.until(ask, seconds=START_SECONDS, what="the signer did not answer")
        await client.close()
        return [wire.from_plain(PublicKey, key, what="public key") for key in said["keys"]]

    def _check_alive(self, name: str) -> None:
        """A process that ended while we wait for it says why in its log. Raises `Unavailable`, also where we are told to stop."""
        if self.stop.is_set():
            raise Unavailable("it was told to stop while it started", remedy="start it again")
        if self.supervisor.units[name].restarts >= 3:
            last = (self.layout.logs / f"{name}.jsonl").read_text("utf-8", "replace").strip().splitlines()[-1:] or ["nothing was logged"]
            with contextlib.suppress(ValueError, KeyError, TypeError):
                last = [str(json.loads(last[0])["message"])]
            raise Unavailable(f"the process `{name}` ends again and again: {last[0][:1000]}", remedy=f"see {self.layout.logs / name}.jsonl")

    async def _start_core(self, keys: list[PublicKey], signed: SignedTrustRoot, token: str) -> None:
        """Steps 3 to 5."""
        settings = self.settings
        log_spki = next(key.spki for key in keys if key.purpose == "log")
        gateway = wiring.take_address(settings.gateway.listen, "[gateway] listen")
        plain = wiring.take_address(settings.gateway.plain_listen, "[gateway] plain_listen")
        console = wiring.take_address(settings.console.listen, "[console] listen")
        sts = wiring.take_address(settings.sts.listen, "[sts] listen")
        authzen = wiring.take_address(settings.authzen.listen, "[authzen] listen")
        wiring.save_applications(self.layout, wiring.read_applications(settings), self.users)
        origin = origin_of(settings.trust_domain, wiring.log_generation(settings, self.layout))
        point = gateway_settings(settings, self.layout, gateway=gateway, plain=plain)
        specs = core_specs(
            settings,
            self.layout,
            self.users,
            wiring.python,
            log_key=log_spki[-32:].hex(),
            origin=origin,
            gateway=(str(envoy_binary()), *flags(point, str(self.layout.bootstrap))),
        )
        by_name = {spec.name: spec for spec in specs}
        self.add(by_name["witness"], "witness")
        witness = await self._witness()
        self.installation = wiring.Installation(
            settings=settings,
            fingerprint=fingerprint(wire.decode(TrustRoot, signed.payload, what="TrustRoot")),
            isolated=self.users.isolated,
            users=self.users,
            gateway=gateway,
            plain=plain,
            console=console,
            sts=sts,
            authzen=authzen,
            log_key=log_spki[-32:].hex(),
            witness_name=witness["name"],
            witness_key=witness["key"].hex(),
            signed_root=wire.encode(signed),
            bootstrap=token,
            policies=wiring.read_policies(settings),
            bundles=wiring.read_bundles(settings),
            signer_files=wiring.read_signer_files(settings),
            source_keys=wiring.read_source_keys(settings),
        )
        wiring.save_installation(self.layout, self.installation, self.users)
        document = json.dumps(bootstrap(point)).encode()
        wiring.write_atomic(self.layout.bootstrap, document, mode=0o600, owner=self.users.of("gateway") if self.users.isolated else None)
        for name in ("control", "pdp", "gateway", "tailer", "agent", *(("sts",) if "sts" in by_name else ())):
            self.add(by_name[name], name)

    async def _witness(self) -> Any:
        client = wiring.async_rpc(self.layout.witness_socket, "witness")

        async def ask() -> Any:
            self._check_alive("witness")
            with contextlib.suppress(VouchgateError):
                return await client.call("public_key")
            return None

        try:
            return await wiring.until(ask, seconds=START_SECONDS, what="the witness did not answer")
        finally:
            await client.close()

    async def _until_ready(self, what: str, *, ready: bool = False) -> None:
        """Wait until the control plane answers, or with `ready`, until all of its parts are well."""
        client = wiring.async_rpc(self.layout.control_socket, "control plane")
        last = ""

        async def ask() -> bool:
            nonlocal last
            for name in ("control", "pdp", "gateway", "tailer", "agent", *(("sts",) if "sts" in self.supervisor.units else ())):
                self._check_alive(name)
            try:
                said = wire.decode(Readiness, await client.call("ready"), what="readiness")
            except VouchgateError:
                return False
            last = "; ".join(f"{part.name}: {part.detail or 'not yet'}" for part in said.parts if not part.ok)
            return said.ready if ready else True

        try:
            await wiring.until(ask, seconds=START_SECONDS, what=f"{what} did not get ready")
        except Unavailable as error:
            raise Unavailable(f"{error.reason}: {last}" if last else error.reason, remedy=error.remedy) from None
        finally:
            await client.close()

    # -- models

    async def _start_servers(self, endpoints: Sequence[EndpointSettings]) -> None:
        """Step 6."""
        control = wiring.async_rpc(self.layout.control_socket, "control plane", timeout=1000.0)
        for endpoint in endpoints:
            if endpoint.command:
                await self._start_server(endpoint, self.servers, control)
                self.servers += 1
            elif not endpoint.routes or endpoint.upstream:
                self.serving.append(Serving(endpoint, "", "declared", "named in vouchgate.toml", ""))
        names = {endpoint.name for endpoint in endpoints}
        for serving in self.serving:
            if serving.endpoint.name in names:
                try:
                    await self._vouch(serving, control)
                except Conflict as error:
                    self.say(f"  {serving.endpoint.name}: {error.reason}; the endpoint stays refused ({error.remedy})")
        await control.close()

    async def _start_server(self, endpoint: EndpointSettings, number: int, control: Any) -> None:
        listening = wiring.listening_socket(self.layout.upstream_socket(endpoint.name), owner=self.users.of("gateway"))
        model, digest = await self._model(endpoint, control) if endpoint.model else (None, "")
        if endpoint.model and model is None:
            os.close(listening)
            return
        spec = server_spec(
            endpoint, self.users, number, interpreter=sys.executable, listen_fd=listening, model_fd=model, folder=str(Path.cwd())
        )
        self.add(spec, "server")
        observed = "opened, hashed and sealed by the supervisor" if digest else "started by the supervisor; it serves no file"
        self.serving.append(Serving(endpoint, digest, "verified" if digest else "declared", observed, endpoint.name))

    async def _model(self, endpoint: EndpointSettings, control: Any) -> tuple[int | None, str]:
        """(sealed descriptor, digest) of the endpoint's model, imported first; None where it is not admitted."""
        path = Path(endpoint.model)
        if not path.exists():
            self.say(f"  {endpoint.name}: there is no model `{path}`; the endpoint stays refused")
            return None, ""
        staged = wiring.stage_file(self.layout, path, self.users)
        try:
            said = await control.call("import_model", staged=staged.name, digest=staged.digest.text, name=path.name, zone=endpoint.zone)
        except VouchgateError as error:
            self.say(f"  {endpoint.name}: {error.reason}; the endpoint stays refused ({error.remedy})")
            return None, ""
        outcome = wire.decode(ImportOutcome, said, what="import outcome")
        if not outcome.admitted:
            self.say(f"  {endpoint.name}: `{path.name}` is not admitted: {outcome.reason}")
            return None, ""
        digest = parse_digest(outcome.digest)
        descriptor, _ = wiring.sealed_copy(self.layout.artifacts / digest.value, digest)
        return descriptor, digest.text

    async def _vouch(self, serving: Serving, control: Any) -> None:
        unit = self.supervisor.units.get(serving.unit)
        pid = unit.child.pid if unit is not None and unit.child is not None else 0
        if serving.unit and not pid:
            return
        digest = serving.digest or _declared_digest(serving.endpoint)
        uid = self.users.own
        await control.call(
            "serving", endpoint=serving.endpoint.name, digest=digest, tier=serving.tier, pid=pid, uid=uid, observed=serving.observed
        )

    async def _renew_vouches(self) -> None:
        """While a server lives, its vouch is renewed; one that is gone lapses."""
        control = wiring.async_rpc(self.layout.control_socket, "control plane", timeout=30.0)
        while True:
            await asyncio.sleep(SERVES_SECONDS / 3)
            for serving in self.serving:
                with contextlib.suppress(VouchgateError):
                    await self._vouch(serving, control)

    async def _report_gateway(self) -> None:
        control = wiring.async_rpc(self.layout.control_socket, "control plane")
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            with contextlib.suppress(VouchgateError):
                while self.gateway_ends:
                    since, reason = self.gateway_ends[0]
                    await control.call("gateway_ended", since=since, reason=reason)
                    del self.gateway_ends[0]

    async def _compare_counters(self) -> None:
        control = wiring.async_rpc(self.layout.control_socket, "control plane")
        while True:
            await asyncio.sleep(LOOK_AT_COUNTERS_SECONDS)
            with contextlib.suppress(VouchgateError):
                counters = await fetch_counters(str(self.layout.admin_socket))
                await control.call("counters", completed=counters.completed)

    async def _reload(self) -> None:
        """SIGHUP: read the settings anew, check them whole, then bring in what changed; a mistake changes nothing."""
        if self._read is None or self.installation is None:
            return
        try:
            fresh = self._read()
            fixed = [name for name in FIXED if getattr(fresh, name) != getattr(self.settings, name)]
            if fixed:
                raise Conflict(f"`{fixed[0]}` cannot change while it runs", remedy="end it and start it again")
            before, applications = self.installation, wiring.read_applications(fresh)
            self.installation = msgspec.structs.replace(
                before,
                settings=fresh,
                policies=wiring.read_policies(fresh),
                bundles=wiring.read_bundles(fresh),
                signer_files=wiring.read_signer_files(fresh),
            )
            wiring.save_applications(self.layout, applications, self.users)
            wiring.save_installation(self.layout, self.installation, self.users)
            control = wiring.async_rpc(self.layout.control_socket, "control plane", timeout=60.0)
            try:
                await control.call("reload")
            except VouchgateError:
                self.installation = before
                wiring.save_installation(self.layout, before, self.users)
                raise
            known, self.settings = {one.name for one in self.settings.endpoints}, fresh
            if needs_sts(fresh) and "sts" not in self.supervisor.units:
                self.add(sts_spec(self.layout, self.users, wiring.python), "sts")
            await self._start_servers([one for one in fresh.endpoints if one.name not in known])
            await control.close()
        except VouchgateError as error:
            self.say(f"  not reloaded: {error.reason} ({error.remedy})")
        else:
            self.say("  reloaded")

    async def _rotate(self) -> None:
        """Begin a new access log when the old one is large and read to its end; one old file is kept."""
        control = wiring.async_rpc(self.layout.control_socket, "control plane")
        while True:
            await asyncio.sleep(LOOK_AT_COUNTERS_SECONDS)
            with contextlib.suppress(VouchgateError, OSError):
                facts = self.layout.access_log.stat()
                position = await control.call("offset")
                gateway = self.supervisor.units["gateway"].child
                if facts.st_size > MAX_ACCESS_LOG_BYTES and position["inode"] == facts.st_ino and gateway is not None:
                    self.layout.access_log.rename(self.layout.access_log.with_suffix(".log.1"))
                    os.kill(gateway.pid, signal.SIGUSR1)

    # -- asked by the control plane

    def _handlers(self) -> dict[str, Handler]:
        async def scan(_: Peer, params: dict[str, Any]) -> Any:
            allowed = wire.from_plain(dict[str, tuple[Entry, ...]], params["allowed"], what="allowances")
            return wire.encode(await asyncio.to_thread(self._scans.scan, params["staged"], params["name"], allowed))

        async def processes(_: Peer, __: dict[str, Any]) -> Any:
            return [wire.to_plain(one) for one in self.processes()]

        async def look(_: Peer, params: dict[str, Any]) -> Any:
            return await self.looker.look([int(pid) for pid in params["pids"]])

        return {"scan": scan, "processes": processes, "look": look, "read_back": read_back_handler(str(self.layout.admin_socket))}

    def processes(self) -> list[ProcessState]:
        """The tree as `status` shows it."""
        wall, steady = _wall(), time.monotonic()
        return [
            ProcessState(
                name=name,
                state="running" if unit.child is not None else "down",
                pid=unit.child.pid if unit.child is not None else 0,
                uid=_uid_of(unit.child.pid) if unit.child is not None else 0,
                since=UnixMillis(wall - int((steady - unit.started_at) * 1000)),
                restarts=unit.restarts,
                detail="" if unit.last_exit is None else f"last ended with {unit.last_exit}",
            )
            for name, unit in self.supervisor.units.items()
        ]


def _wall() -> int:
    return time.time_ns() // 1_000_000


def _uid_of(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return -1


def _declared_digest(endpoint: EndpointSettings) -> str:
    """A stand-in for content that nobody saw: the digest of the declaration itself."""
    text = json.dumps(["declared", endpoint.name, endpoint.upstream, list(endpoint.command)]).encode()
    return f"sha256:{hashlib.sha256(text).hexdigest()}"
