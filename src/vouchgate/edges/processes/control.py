"""The control plane: the only writer of store and log, the sequencer, the publisher, the API and the console.

`python -m vouchgate.edges.processes.control --data-dir DIR`. Listens on control/control.sock (frames: tailer, PDP worker, supervisor),
control/api.sock (HTTP, any uid, each act decided), control/ads.sock (delta ADS, the gateway alone) and the console's loopback address.
What it does in which order stands in `run`; every story is a flow.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate import wiring
from vouchgate.audit import ocsf
from vouchgate.audit.checkpoints import origin_of
from vouchgate.edges.api.app import build_app
from vouchgate.edges.api.server import ApiServer
from vouchgate.edges.envoy.ads import AdsServer
from vouchgate.edges.envoy.checking import check_endpoint
from vouchgate.edges.envoy.publisher import GatewayView
from vouchgate.edges.processes import logs
from vouchgate.edges.processes.asks import Outside
from vouchgate.edges.processes.control_rpc import handlers
from vouchgate.edges.processes.drift_reader import POINT, GatewayReader
from vouchgate.edges.processes.gateway_settings import gateway_settings
from vouchgate.edges.processes.rpc_server import serve
from vouchgate.flows import allowances_standing, runs, start, sweep
from vouchgate.flows.attest_remote import bring_source_keys
from vouchgate.flows.audit_trail import Trail
from vouchgate.flows.budgets import Budgets
from vouchgate.flows.changes import Change, EndpointPut, KeysPublished
from vouchgate.flows.checkpoint import Checkpoints
from vouchgate.flows.context import Buckets, Context, Place
from vouchgate.flows.drift import DriftWatch
from vouchgate.flows.facts import Facts, compile_sources
from vouchgate.flows.federate import Federation
from vouchgate.flows.habits import Habits
from vouchgate.flows.health import Health
from vouchgate.flows.in_process import InProcess
from vouchgate.flows.issue_identity import bundle_pem
from vouchgate.flows.observe_traffic import Observer
from vouchgate.flows.pdp_link import PdpLink
from vouchgate.flows.people import People
from vouchgate.flows.prevalidate import prevalidate
from vouchgate.flows.publish import Publisher
from vouchgate.flows.push_log import PushLog
from vouchgate.flows.rotate_secret import Secrets, Vault
from vouchgate.flows.sequence import Sequenced, Sequencer
from vouchgate.flows.serve_models import supervisor_caller
from vouchgate.flows.settle import Settling
from vouchgate.flows.system import System
from vouchgate.flows.token_service import TokenService
from vouchgate.flows.traffic import Traffic
from vouchgate.flows.units import server_uids
from vouchgate.flows.workload import Workloads
from vouchgate.flows.workload_push import Push
from vouchgate.flows.workload_state import State
from vouchgate.identity.bundle import write_jwks
from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.verdict import ScanReport
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.approvals import Owed, Settled
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.records import Append

GATEWAY_SVID_SECONDS = 3600
"""Life of the gateway's certificate; renewed at half of it."""
OUTSIDE_SECONDS = 15.0
"""How long an owner of a secret may take, the way there included."""
OUTBOUND_SECONDS = 12.0
"""How long the token service may take to fetch something: its own deadline (ports/http.py) ends before."""
YIELD_AFTER = 16
"""Decisions made for others that are written out in one go: half a millisecond."""
SWITCH_SECONDS = 0.0005
"""For so long a thread at work (reading policies, comparing what gateways enforce) keeps the interpreter while the loop wants it. A revocation
wants it many times on its way, and each time waits as long; Python's own is 5 ms."""
RESCAN_AFTER_SECONDS = 5.0
"""From the start, or from a scan that could not be made, to the next try: gateway and supervisor come first."""
RESCAN_TRIES = 12
DRIFT_AFTER_SECONDS = 5.0
"""How long after the start the gateway is read back first: it comes a second after the control plane."""
TREE_SECONDS = 10.0
"""How long the start waits for the signer."""


class Control:
    """One control plane, put together."""

    def __init__(self, data_dir: Path) -> None:
        self.log = logs.set_up("control")
        self.installation = wiring.load_installation(data_dir)
        self.settings, self.users = self.installation.settings, self.installation.users
        self.layout = Layout(data_dir)
        self.store = wiring.open_store(self.settings, self.layout)
        self.clock = wiring.clock(self._floor())
        self.facts = Facts(self.settings.trust_domain, self.installation.fingerprint)
        self.signer = wiring.async_rpc(self.layout.signer_socket, "signer")
        self.supervisor = wiring.async_rpc(self.layout.supervisor_socket, "supervisor", timeout=1000.0)
        self._looking = wiring.async_rpc(self.layout.supervisor_socket, "supervisor")
        self.pdp = PdpLink(
            wiring.async_rpc(self.layout.pdp_socket, "PDP worker"), self._snapshot, self._shortest_lease_ms(), self.clock.now
        )
        self.ads = AdsServer(allowed_uids={self.users.of("gateway")})
        installation = self.installation
        gateway = gateway_settings(self.settings, self.layout, gateway=installation.gateway, plain=installation.plain, sts=installation.sts)
        self.view = GatewayView(gateway, self.ads, clock=self.clock.now, issuer=f"spiffe://{self.settings.trust_domain}")
        self.sequencer = Sequencer(self.store, check=self._check, apply=self._apply, tell=self._tell)
        self.publisher = Publisher(
            self.facts,
            self.view,
            self.pdp,
            clock=self.clock.now,
            record=self._record,
            publish_keys=self._publish_keys,
            sent=self._sent,
            seats=self.settings.limits.entries_per_map,
        )
        self.traffic = Traffic()
        self.budgets = Budgets(
            self.settings.trust_domain,
            lambda: self.facts.endpoints,
            lambda: self.facts.settings,
            self.sequencer,
            self.publisher.redecide,
            self.clock.now,
        )
        self.habits = Habits(self.facts, self.sequencer, self.clock.now)
        self.observer = Observer(self.facts, self.sequencer, self.traffic, self.clock.now, self.budgets, self.habits)
        self.context = self._context()
        self.token_service = TokenService(self.context)
        self.pushes = PushLog(self.context)
        self.people = People(self.context, wiring.async_rpc(self.layout.sts_socket, "token service", timeout=OUTBOUND_SECONDS))
        self.token_service.keys = self.people.sources.evidence_keys
        self.workloads = Workloads(self.context, self._look)
        self.workload_state = State(self.context)
        agent = wiring.async_rpc(self.layout.agent_socket, "agent", timeout=2.0)
        self.workload_push = Push(self.context, self.workloads, agent, self.workload_state)
        self.in_process = InProcess(self.context)
        self.settling = Settling(self.context)
        origin = origin_of(self.settings.trust_domain, self.store.generation)
        witness_key = bytes.fromhex(self.installation.witness_key)
        self.checkpoints = Checkpoints(self.context, origin, witness_name=self.installation.witness_name, witness_key=witness_key)
        trail = Trail(
            self.context,
            origin=origin,
            log_key=bytes.fromhex(self.installation.log_key),
            witness_name=self.installation.witness_name,
            witness_key=witness_key,
        )
        outside = Outside(wiring.async_rpc(self.layout.sts_socket, "token service", timeout=OUTSIDE_SECONDS))
        vault = Vault(self.settings.trust_domain, wiring.secrets_key(self.layout))
        self.secrets = Secrets(self.context, vault, outside, self._inject)
        outbound = wiring.async_rpc(self.layout.sts_socket, "token service", timeout=OUTSIDE_SECONDS)
        self.federation = Federation(self.context, outbound, self.view, self.installation.bundles)
        self.system = System(
            self.context,
            secrets=self.secrets,
            federation=self.federation,
            checkpoints=self.checkpoints,
            trail=trail,
            artifacts=wiring.artifact_store(self.settings, self.layout),
            scan=self._scan,
            back_up=lambda target: wiring.back_up(self.layout, self.settings.trust_domain, target),
            people=self.people,
        )
        self.system.tokens, self.system.prover = self.token_service, wiring.prover()
        self.system.signer_files, self.system.open_tree = self.installation.signer_files, wiring.stored_tree
        reader = GatewayReader(self._looking, self.ads, gateway, self.facts.endpoints.values)
        self.system.drift = DriftWatch(self.context, {POINT: reader}, self.view.granted)
        self.health = Health(self.context, self.observer, free=lambda: wiring.free_bytes(self.layout.control))
        self._svid: tuple[str, str] | None = None
        self._rotated = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def _context(self) -> Context:
        installation = self.installation
        place = Place(
            gateway=installation.gateway,
            plain=installation.plain,
            console=installation.console,
            isolated=installation.isolated,
            own_uid=self.users.own,
            sts=installation.sts,
        )
        return Context(
            settings=self.settings,
            place=place,
            facts=self.facts,
            store=self.store,
            sequencer=self.sequencer,
            publisher=self.publisher,
            points=self.view,
            pdp=self.pdp,
            signer=self.signer,
            witness=wiring.async_rpc(self.layout.witness_socket, "witness"),
            supervisor=self.supervisor,
            clock=self.clock,
            traffic=self.traffic,
            registering=Buckets(self.settings.limits.registrations_per_minute),
            validator=wiring.prover(),
            started_at=self.clock.now(),
        )

    def _floor(self) -> int:
        """The time of the newest log entry: the clock never runs below it."""
        size = self.store.size()
        return ocsf.summary(self.store.entries(size - 1, 1)[0]).time if size else 0

    def _shortest_lease_ms(self) -> int:
        return 1000 * min((zone.lease_seconds for zone in self.settings.zones.values()), default=10)

    def _snapshot(self) -> tuple[int, Iterator[Sequenced]]:
        return self.store.epoch(), start.snapshot(self.store, self.clock.now())

    def _check(self, change: Change) -> None:
        """Before a change is recorded: it follows what is there, and the gateway could take it."""
        self.facts.check(change)
        if isinstance(change, EndpointPut):
            check_endpoint(change.endpoint, self.settings.gateway.hosts)

    def _apply(self, sequenced: Sequenced) -> None:
        self.facts.apply(sequenced, self.clock.now())

    def _tell(self, batch: Sequence[Sequenced]) -> None:
        self.pdp.tell(batch)
        self.publisher.tell(batch)
        self.people.tell(batch)
        self.habits.tell(batch)
        self.federation.tell(batch)
        if any(isinstance(one.change, KeysPublished) for one in batch):
            self._rotated.set()
        self.workload_push.tell(batch)

    async def _look(self, pids: Sequence[int]) -> Any:
        """Facts of processes by the supervisor, which alone may read them."""
        return await self._looking.call("look", pids=list(pids))

    def _record(self, decisions: Sequence[Decision]) -> None:
        """Standing decisions that changed: remembered, and into the log."""
        for decision in decisions:
            # a line needs words for a refusal alone; of ten thousand callers most are granted
            if decision.reason or decision.remedy or decision.waivers:
                self.observer.remember(decision)
        entries = [Append(entry=ocsf.decision(decision), label=decision.id) for decision in decisions]
        self.context.spawn(self._submit(entries))

    def _sent(self, resource: str, epoch: int, detail: dict[str, Any]) -> None:
        self.pushes.sent(resource, epoch, detail)

    async def _submit(self, entries: Sequence[Append]) -> None:
        for first in range(0, len(entries), 256):
            try:
                await self.sequencer.submit("system:publisher", (), entries[first : first + 256])
            except VouchgateError as error:
                self.log.error("standing decisions could not be recorded: %s", error.reason)
                self.publisher.hold("record", f"standing decisions could not be recorded: {error.reason}")
                return
        self.publisher.hold("record", "")

    async def record_decision(self, decision: Decision) -> None:
        """A single request's decision, durable when it returns."""
        await self.sequencer.submit(f"pdp:{decision.principal}", (), [Append(entry=ocsf.decision(decision), label=decision.id)])
        self.observer.remember(decision)

    async def record_decisions(self, decisions: Sequence[bytes], asked_by: Sequence[str]) -> None:
        """Decisions that were made for enforcement points of others, durable when it returns; not remembered for the lines of our gateway."""
        entries: list[Append] = []
        for data, who in zip(decisions, asked_by, strict=True):
            decision = wire.decode(Decision, data, what="decision")
            entries.append(Append(entry=ocsf.decision(decision, asked_by=who), label=decision.id))
            if len(entries) % YIELD_AFTER == 0:
                # a revocation does not wait until all of them are written out
                await asyncio.sleep(0)
        await self.sequencer.submit("pdp:for-others", (), entries)

    async def settle_decision(self, decision: Decision, owed: Owed) -> Settled:
        """A single request's decision that owes something, durable as it ended when it returns."""
        said, recorded = await self.settling.settle(decision, owed)
        self.observer.remember(recorded)
        return said

    def _scan(self, descriptor: int, *, name: str, allowed: Mapping[str, tuple[Entry, ...]] = MappingProxyType({})) -> ScanReport:
        """In the importing thread: ask the supervisor, which may start a process as another user."""
        assert self._loop is not None
        staged = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name  # noqa: PTH115 - the link's text is what is wanted
        asked = self.supervisor.call("scan", staged=staged, name=name, allowed=wire.to_plain(dict(allowed)))
        said = asyncio.run_coroutine_threadsafe(asked, self._loop).result()
        return wire.decode(ScanReport, said, what="scan report")

    def _inject(self, name: str, value: bytes) -> None:
        """A secret that the gateway puts into requests."""
        self.view.set_secret(name, value)

    # -- identity of the gateway

    async def renew_svid(self) -> None:
        """Keep the gateway's certificate fresh: a new key and certificate at half of the old one's life, and when a CA comes or goes."""
        while True:
            self._rotated.clear()
            try:
                await self._new_svid()
                self._publish_keys()
                pause = GATEWAY_SVID_SECONDS / 2
            except VouchgateError as error:
                self.log.error("the gateway's certificate could not be renewed: %s", error.reason)
                pause = 1.0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._rotated.wait(), pause)

    async def _new_svid(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        name = principal(self.settings.trust_domain, "system", "gateway", "gateway")
        hosts = [host for host in self.settings.gateway.hosts if not host.replace(".", "").isdigit()]
        said = await self.signer.call("x509_svid", spki=spki, principal=name, ttl_seconds=GATEWAY_SVID_SECONDS, dns=hosts)
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self._svid = (wiring.pem_chain(said["chain"]), pem.decode())

    def _publish_keys(self) -> None:
        if self._svid is not None and self.facts.bundle is not None:
            jwks = write_jwks(self.facts.bundle, uses=("jwt-svid",)).decode()
            bundle = bundle_pem(self.context)
            self.view.set_identity(jwks=jwks, bundle=bundle, svid=self._svid)

    # -- the run

    async def run(self) -> None:
        """Serve until SIGTERM."""
        self._loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, stop.set)
        replayed = start.replay(self.store, self.facts, self.clock.now())
        self.log.info("replayed %d records, epoch %d, %d log entries", replayed, self.facts.epoch, self.store.size())
        self.budgets.start(self.store)
        self.settling.start(self.store)
        self.habits.start(self.store)
        wiring.artifact_store(self.settings, self.layout).sweep()
        sequencing = asyncio.create_task(self.sequencer.run())
        await wiring.until(self._signer_ready, seconds=TREE_SECONDS, what="the signer did not answer")
        await start.bring_in(self.context, self.installation.signed_root, self.installation.policies, self.installation.bootstrap)
        await bring_source_keys(self.context, self.installation.source_keys)
        await allowances_standing.settle(self.context)
        self.workloads.candidates.load()
        # before a gateway that outlived us connects: without them its partners' callers would be refused until the first look
        self.federation.hand_on()
        await self._new_svid()
        self.publisher.start()
        await self.budgets.settle()
        frames = await serve(self.layout.control_socket, handlers(self), allowed_uids=self._frames_uids())
        api = await self._serve_api()
        checkpoint_every = self.settings.audit.checkpoint_seconds
        running = [
            sequencing,
            asyncio.create_task(self.publisher.run()),
            asyncio.create_task(self.view.run()),
            asyncio.create_task(self.pdp.run(lambda: not self.publisher.holding)),
            asyncio.create_task(self.checkpoints.run(checkpoint_every)),
            asyncio.create_task(self.renew_svid()),
            asyncio.create_task(self.health.run()),
            asyncio.create_task(runs.expire(self.context)),
            asyncio.create_task(self.pushes.run()),
            asyncio.create_task(sweep.run(self.context)),
            asyncio.create_task(self.people.run()),
            asyncio.create_task(self.secrets.run()),
            asyncio.create_task(self.federation.run()),
            asyncio.create_task(self.workload_push.run()),
            asyncio.create_task(self._watch_drift()),
            asyncio.create_task(self._rescan()),
        ]
        # what partners and providers need is told by the first turn of their tasks: a gateway that comes before would be told to do without
        await asyncio.sleep(0)
        await self.ads.start(str(self.layout.ads_socket))
        self.log.info("ready")
        waiting = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([waiting, *running], return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in done if task is not waiting]
        for task in failed:
            self.log.error("a task ended by itself: %s", type(task.exception()).__name__, exc_info=task.exception())
        frames.close()
        await api.close()
        await self.ads.stop()
        with contextlib.suppress(VouchgateError):
            await asyncio.wait_for(self.checkpoints.make(), 2)
        for task in running:
            task.cancel()
        self.store.close()
        if failed:
            sys.exit(3)

    async def _rescan(self) -> None:
        """A start may have brought a newer scanner: what a weaker one passed is scanned again (flows/rescan.py). Never ends by itself."""
        if any(vouch.predicate_type == "scan" for vouch in self.facts.lineage.vouches.values()):
            caller = supervisor_caller(self.context, os.getpid())
            for _ in range(RESCAN_TRIES):
                await asyncio.sleep(RESCAN_AFTER_SECONDS)
                if not self.system.rescanning.running:
                    await self.system.rescan_all(caller)
                state = self.system.rescanning
                if not state.trouble:
                    said = (state.clean, state.total, state.lost, state.fallen)
                    self.log.info("scanned again: %d of %d clean, %d lost their scan, %d vouches revoked", *said)
                    break
                self.log.error("not all was scanned again: %s", state.trouble)
        await asyncio.Event().wait()

    async def _watch_drift(self) -> None:
        """Once a gateway had the time to come."""
        assert self.system.drift is not None
        await asyncio.sleep(DRIFT_AFTER_SECONDS)
        await self.system.drift.run()

    async def reload(self) -> None:
        """Take in a new installation file: checked as a whole before the first change. Raises what is wrong with it."""
        fresh = wiring.load_installation(self.layout.data_dir)
        await prevalidate(fresh.policies, self.context.validator)
        compile_sources(fresh.policies, version=0)
        self.settings = self.context.settings = fresh.settings
        await start.bring_in(self.context, fresh.signed_root, fresh.policies, fresh.bootstrap)
        self.system.signer_files = fresh.signer_files
        await self.federation.reload(fresh.bundles)
        self.log.info("reloaded")

    def _frames_uids(self) -> set[int]:
        servers = server_uids(self.settings, self.users).values()
        return {self.users.of("tailer"), self.users.of("pdp"), self.users.of("agent"), self.users.of("sts"), self.users.own, *servers}

    async def _signer_ready(self) -> bool:
        try:
            await self.signer.call("health")
        except VouchgateError:
            return False
        return True

    async def _serve_api(self) -> ApiServer:
        server = ApiServer()
        app = build_app(
            self.system,
            spool=self.layout.staging,
            now=self.clock.now,
            monotonic=time.monotonic,
            console_hosts=server.console_hosts,
            session_minutes=self.settings.console.session_minutes,
            requests_per_second=self.settings.limits.api_requests_per_second,
            max_import_bytes=self.settings.limits.import_mib * 1024 * 1024,
            disk_reserve_bytes=self.settings.audit.disk_reserve_mib * 1024 * 1024,
        )
        await server.listen_unix(app, self.layout.api_socket)
        if self.installation.console:
            host, _, port = self.installation.console.rpartition(":")
            await server.listen_console(app, host.strip("[]"), int(port))
        return server


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="vouchgate-control")
    parser.add_argument("--data-dir", type=Path, required=True)
    data_dir = parser.parse_args().data_dir

    async def go() -> None:
        await Control(data_dir).run()

    with contextlib.suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        asyncio.run(go())
    except VouchgateError as error:
        logs.set_up("control").error("cannot start: %s (%s)", error.reason, error.remedy)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
