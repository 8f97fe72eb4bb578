"""`make eval-misconfig`: is what a tired engineer gets wrong found, by name, and is nothing said of what is harmless? As root.

    python evals/misconfigurations.py [--only WORD ...]

1. The list (misconfigured.py) was written before anybody looked at what is found. One installation runs on the good configuration.
2. Changed Cedar files go to `vouchgate policy check --json`, changed settings to `vouchgate config check --json` beside those in force. At the
   gateway, real sidecars and a cluster's recorded policies the change is made for real and `vouchgate zones drift --json` is asked.
3. A misconfiguration counts as found only if one finding, that the good configuration does not have, says every word of `names`; the request
   that shows it does not count.
4. Alarms of what runs: from the change to the first reading that tells it, as the control plane or `zones drift --watch` reads by itself.
5. Null: a check that says nothing must find nothing. Sabotage: a copy of the package in which one lint is silent must miss what only it finds.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "system"), str(ROOT / "evals")]

import misconfigured as listed  # noqa: E402
from access_null import Sabotage, _package  # noqa: E402
from benchmarks.rows import Row, emit, exit_code, share_interval  # noqa: E402
from installation import EXAMPLE, MODEL, Installation  # noqa: E402
from misconfigured import Case, Text  # noqa: E402

from vouchgate.edges.envoy.bootstrap import envoy_binary  # noqa: E402

ALARM_SECONDS = 10.0
UID = 58_700
"""Unix user of the sidecar."""
SECONDS = "20"
"""For what is proved of one set."""
SERVER = f'\n[[identities]]\nname = "archive"\nkind = "server"\nzone = "register"\nuid = {UID}\n'
CLUSTERED = ('upstream = "unix:{folder}/archive.up"', 'upstream = "tcp:10.7.0.9:9000"')

MEDDLE = """
import pathlib as _pathlib
_SWITCH = _pathlib.Path(__file__).with_name("switch")
_seen: dict = {}
_was = [""]
_aside: list = []


def _word():
    try:
        return _SWITCH.read_text()
    except OSError:
        return ""


def _meddled(response, key, value):
    from envoy.config.cluster.v3 import cluster_pb2
    from envoy.config.listener.v3 import listener_pb2
    from envoy.config.route.v3 import route_pb2
    from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
    from google.protobuf import any_pb2
    word, (url, name) = _word(), key
    first = _seen.setdefault(key, value)
    if word != "STALE" and name.startswith("map/") and len(value.value) > len(first.value):
        _seen[key] = value
    if word == "REVOCATIONS" and name.startswith("revocations"):
        return first
    if word == "STALE" and name.startswith("map/"):
        return _seen[key]
    made = any_pb2.Any()
    made.CopyFrom(value)
    if url.endswith("listener.v3.Listener") and word != "LISTENER" and _aside:
        _aside.clear()
        response.removed_resources.append("vg-aside")
    if word == "CLUSTER" and name.endswith("/endpoint/digits"):
        one = cluster_pb2.Cluster.FromString(value.value)
        one.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.pipe.path = "/run/aside.sock"
        made.value = one.SerializeToString(deterministic=True)
    if word == "ROUTE" and url.endswith("RouteConfiguration"):
        one = route_pb2.RouteConfiguration.FromString(value.value)
        for host in (host for host in one.virtual_hosts if host.routes):
            route = type(host.routes[0])()
            route.CopyFrom(host.routes[0])
            route.name = "vg-aside"
            route.match.Clear()
            route.match.prefix = "/vg-aside"
            host.routes.insert(0, route)
        made.value = one.SerializeToString(deterministic=True)
    if url.endswith("listener.v3.Listener") and word in ("LISTENER", "HEADER", "OPEN"):
        one = listener_pb2.Listener.FromString(value.value)
        manager = hcm_pb2.HttpConnectionManager.FromString(one.filter_chains[0].filters[0].typed_config.value)
        if word == "LISTENER":
            one.name = "vg-aside"
            one.address.pipe.path = f"@vg-aside-{id(_aside)}"
            if not _aside:
                _aside.append(1)
                response.resources.add(name="vg-aside", version="1").resource.Pack(one, deterministic=True)
            return value
        if word == "HEADER":
            del manager.early_header_mutation_extensions[:]
        if word == "OPEN":
            from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
            for filter in manager.http_filters:
                if filter.typed_config.type_url.endswith("ext_authz.v3.ExtAuthz"):
                    authz = ext_authz_pb2.ExtAuthz.FromString(filter.typed_config.value)
                    authz.failure_mode_allow = True
                    filter.typed_config.value = authz.SerializeToString(deterministic=True)
        one.filter_chains[0].filters[0].typed_config.value = manager.SerializeToString(deterministic=True)
        made.value = one.SerializeToString(deterministic=True)
    return made


def _complete("""
MEDDLED = Sabotage(
    "what is pushed", "", (
        ("edges/envoy/ads.py", "\ndef _complete(", MEDDLE),
        ("edges/envoy/ads.py", "            made.resource.CopyFrom(held.value)\n", "            made.resource.CopyFrom(_meddled(response, key, held.value))\n"),
        ("edges/envoy/ads.py", "            made.ttl.CopyFrom(seconds(held.ttl))\n",
         "            if not (_word() == 'TTL' and key[1] == 'lease'):\n                made.ttl.CopyFrom(seconds(held.ttl))\n"),
        ("edges/envoy/ads.py", "        self._mark(known, body=False)\n",
         "        self._mark(known, body=False)\n        if _word() != _was[0]:\n            _was[0] = _word()\n            self._mark(list(self._held), body=True)\n"),
    ),
)  # fmt: skip
"""Every push goes through a function that the word in a file decides on; a new word pushes everything again within a renewal."""
NO_NAMES = Sabotage("names are not looked at", "typo in a group", (("policy/lints.py", "*_names(own, policies), ", ""),))


class Named(Protocol):
    """Anything of the list."""

    @property
    def name(self) -> str: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    def named(self, finding: str) -> bool: ...


@dataclass
class Outcome:
    """What was said of one entry of the list."""

    case: Named
    findings: list[str]
    """Those that the good configuration does not have, errors marked."""
    errors: int = 0
    seconds: float = -1.0
    """Until the alarm; -1 where nothing runs."""

    @property
    def found(self) -> bool:
        return any(self.case.named(one) for one in self.findings)


@dataclass
class Said:
    """Findings of one run of the command line."""

    findings: list[str]
    errors: int
    other: list[str] = field(default_factory=list)


class House(Installation):
    """The good configuration, as it is started, from the package or a copy of it."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__()
        self.command = list(command)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.egress = free.getsockname()[1]
        pack = (ROOT / "src" / "vouchgate" / "policy" / "packs" / "ai_lifecycle.cedar").read_text(encoding="utf-8")
        self.good = Text(pack, listed.SITE, listed.SETTINGS + listed.identities() + SERVER)
        self.folder.chmod(0o711)
        self.write(self.good, self.folder)

    def write(self, text: Text, folder: Path) -> Path:
        """The three files; the settings' path."""
        folder.mkdir(exist_ok=True)
        (folder / "lifecycle.cedar").write_text(text.lifecycle, encoding="utf-8")
        (folder / "site.cedar").write_text(text.site, encoding="utf-8")
        path = folder / "v.toml"
        path.write_text(text.settings.format(folder=self.folder, example=EXAMPLE, model=MODEL, egress=self.egress), encoding="utf-8")
        return path

    def start(self, *, prefix: tuple[str, ...] = (), ready: bool = True) -> Installation:
        """As its parent, by this house's command."""
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                [*prefix, *self.command, "up", "--config", str(self.settings)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        if ready:
            self.until_ready()
        return self

    # -- what is asked

    def policies(self, text: Text, folder: Path, *more: str, command: Sequence[str] = (), files: bool = True) -> Said:
        """`vouchgate policy check` on changed files, beside what is in force."""
        self.write(text, folder)
        paths = [str(folder / "lifecycle.cedar"), str(folder / "site.cedar")] if files else []
        return findings(self.ran(command, "policy", "check", *paths, "--seconds", SECONDS, "--json", *more, "--config", str(self.settings)))

    def checked(self, text: Text, folder: Path, command: Sequence[str] = ()) -> Said:
        """`vouchgate config check` on changed settings."""
        return findings(self.ran(command, "config", "check", "--json", "--config", str(self.write(text, folder)), *self.against()))

    def against(self) -> tuple[str, ...]:
        """The settings that changed ones are to replace, where that can be said."""
        return ("--against", str(self.settings)) if "--against" in self.ran((), "config", "check", "--help").stdout else ()

    def ran(self, command: Sequence[str], *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line, whatever it answers."""
        whole = [*(command or self.command), *arguments]
        done = subprocess.run(whole, check=False, capture_output=True, text=True, timeout=180, cwd=self.folder, stdin=subprocess.DEVNULL)
        if "Traceback (most recent call last)" in done.stderr:
            raise RuntimeError(done.stderr)
        return done

    def drift(self, *more: str) -> Said:
        """`vouchgate zones drift`, now."""
        return findings(self.ran((), "zones", "drift", "--json", *more, "--config", str(self.settings)))


def findings(done: subprocess.CompletedProcess[str]) -> Said:
    """What one run says, each finding as one text."""
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or done.returncode not in (0, 1):
        return Said([done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"], 1)
    made = list(answer.get("findings", []))
    drifts = [one for point in answer.get("points", []) for one in point.get("drifts", [])]
    texts = [" ".join(str(part) for key, part in one.items() if key not in ("example", "severity")) for one in (*made, *drifts)]
    return Said(texts, sum(one.get("severity") == "error" for one in made), answer.get("unproved", []))


# --- files ------------------------------------------------------------------------------------------------------------------------


def in_files(house: House, cases: Sequence[Case], ask: Callable[[Text, Path], Said], good: Said) -> list[Outcome]:
    """Each case once; what the good configuration says too is not counted."""
    made = []
    for case in cases:
        said = ask(case.edit(house.good), house.folder / "changed")
        new = [one for one in said.findings if one not in good.findings]
        made.append(Outcome(case, new, said.errors))
        tell(made[-1])
    return made


def harmless(house: House, good: Said, cases: Sequence[Case]) -> list[Outcome]:
    """Both commands, on what each edit changes."""
    made = []
    for case in cases:
        text = case.edit(house.good)
        new = Outcome(case, [])
        if (text.lifecycle, text.site) != (house.good.lifecycle, house.good.site):
            said = house.policies(text, house.folder / "changed")
            new.findings += [one for one in said.findings if one not in good.findings]
            new.errors += said.errors
        if text.settings != house.good.settings:
            said = house.checked(text, house.folder / "changed")
            new.findings += said.findings
            new.errors += said.errors
        made.append(new)
        tell(new, harmless=True)
    return made


def tell(one: Outcome, *, harmless: bool = False) -> None:
    """One line, as it goes."""
    mark = ("FALSE" if one.errors else f"{len(one.findings)} warnings") if harmless else ("found" if one.found else "MISSED")
    after = f" after {one.seconds:.1f} s" if one.seconds >= 0 else ""
    first = next((text for text in one.findings if harmless or one.case.named(text)), " // ".join(one.findings))
    sys.stdout.write(f"{mark}{after}: {one.case.name}: {first[:260]}\n")
    sys.stdout.flush()


# --- the gateway ------------------------------------------------------------------------------------------------------------------

WORDS = {
    "revocations are not sent": "REVOCATIONS", "a map keeps an entry": "STALE", "another upstream": "CLUSTER", "a listener more": "LISTENER",
    "a route more": "ROUTE", "a header is not removed": "HEADER", "the lease has no end": "TTL", "the decision point may fail open": "OPEN",
}  # fmt: skip


def at_gateway(house: House, switch: Path, wanted: Callable[[str], bool]) -> list[Outcome]:
    """Each word in turn, and the good push between two."""
    made = []
    for case in (one for one in listed.PUSHES if wanted(one.name)):
        word = WORDS[case.name]
        until_good(house)
        caller = house.caller(f"passing-{word.lower()}", ("callers",)) if word in ("REVOCATIONS", "STALE") else None
        if caller:
            time.sleep(4)
        switch.write_text(word)
        time.sleep(4.5 if word in ("REVOCATIONS", "STALE") else 0)
        if caller:
            house.revoke(caller.principal)
        seconds, texts = alarm(lambda case=case: [text for text in own(house) if case.named(text)], lambda: own(house))
        texts += house.drift().findings
        made.append(Outcome(case, texts, 0, seconds))
        tell(made[-1])
        switch.write_text("")
    until_good(house)
    return made


def own(house: House) -> list[str]:
    """What the control plane read by itself."""
    answer = house.client.get(dict, "/api/v1/zones/drift")
    return [" ".join(str(part) for part in one.values()) for point in answer["points"] for one in point["drifts"]]


def alarm(named: Callable[[], list[str]], everything: Callable[[], list[str]]) -> tuple[float, list[str]]:
    """Seconds until something names it, -1 for not within three times what is allowed; and all that was said then."""
    began = time.monotonic()
    while time.monotonic() - began < 3 * ALARM_SECONDS:
        if named():
            return time.monotonic() - began, everything()
        time.sleep(0.1)
    return -1.0, everything()


def until_good(house: House) -> None:
    """Nothing drifts."""
    house.until(lambda: house.client.get(dict, "/api/v1/zones/drift")["ok"], 60, f"it still drifts: {own(house)[:3]}", 0.2)


# --- sidecars and a cluster -------------------------------------------------------------------------------------------------------


class Watch:
    """`vouchgate zones drift --watch --json`, read line by line."""

    def __init__(self, house: House, *more: str) -> None:
        command = [
            *house.command,
            "zones",
            "drift",
            "--watch",
            "--json",
            *more,
            "--config",
            str(house.settings),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=house.folder)
        self.last: list[str] | None = None
        self.lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        text = ""
        for line in self.process.stdout:
            text += line
            with contextlib.suppress(ValueError):
                report = json.loads(text)
                text = ""
                with self.lock:
                    self.last = [" ".join(str(part) for part in one.values()) for point in report["points"] for one in point["drifts"]]

    def said(self) -> list[str]:
        with self.lock:
            return list(self.last or [])

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()


def at_cluster(house: House, wanted: Callable[[str], bool]) -> list[Outcome]:
    """A cluster's policies as recorded from its API server, changed in place while they are watched."""
    out = house.folder / "k8s"
    said = house.ran((), "zones", "export", "--to", "kubernetes", "-o", str(out), "--config", str(house.settings))
    if said.returncode:
        raise RuntimeError(said.stderr)
    items = [item for path in sorted(out.glob("*.json")) for item in json.loads(path.read_text())["items"]]
    record = house.folder / "cluster.json"

    def put(some: list[dict[str, Any]]) -> None:
        part = record.with_suffix(".part")
        part.write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": some}))
        part.replace(record)

    put(items)
    watch, made = Watch(house, "--kubernetes", str(record)), []
    try:
        house.until(lambda: watch.last is not None and not watch.said(), 20, f"the good cluster drifts: {watch.said()[:3]}")
        for case in (one for one in listed.CLUSTER if wanted(one.name)):
            put(clustered(items, case.edit))
            seconds, texts = alarm(lambda case=case: [one for one in watch.said() if case.named(one)], watch.said)
            made.append(Outcome(case, texts, 0, seconds))
            tell(made[-1])
            put(items)
            house.until(lambda: not watch.said(), 20, "the cluster still drifts")
    finally:
        watch.end()
    return made


def clustered(items: list[dict[str, Any]], edit: str) -> list[dict[str, Any]]:
    """One change of the cluster's policies."""
    made = copy.deepcopy(items)
    zone = next(one for one in made if one["metadata"]["name"].startswith("vouchgate-zone"))
    ports = [one for one in made if any(rule.get("ports") for rule in (*one["spec"].get("ingress", []), *one["spec"].get("egress", [])))]
    match edit:
        case "extra":
            spec = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}
            made.append({**zone, "metadata": {"name": "open-for-debugging", "namespace": zone["metadata"]["namespace"]}, "spec": spec})
        case "missing":
            made.remove(zone)
        case "port":
            rule = next(rule for rule in (*ports[0]["spec"].get("ingress", []), *ports[0]["spec"].get("egress", [])) if rule.get("ports"))
            rule["ports"][0]["port"] = 22
        case "egress":
            zone["spec"]["policyTypes"] = ["Ingress"]
    return made


def at_sidecars(house: House, wanted: Callable[[str], bool]) -> list[Outcome]:
    """A real Envoy on the exported file, then on changed ones, while the folder and its pipe are watched."""
    out, run = house.folder / "out", house.folder / "run"
    run.mkdir(mode=0o777)
    run.chmod(0o1777)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    where = ("--listen", f"127.0.0.1:{port}", "--run-dir", str(run))
    said = house.ran((), "zones", "export", "--to", "envoy", "-o", str(out), *where, "--config", str(house.settings))
    if said.returncode:
        raise RuntimeError(said.stderr)
    path = out / "sidecar-archive.json"
    good = json.loads(path.read_text())
    made = []
    with running(house, good) as began:
        watch = Watch(house, "--sidecars", str(out), *where)
        try:
            house.until(lambda: watch.last is not None and not watch.said(), 120, f"the good sidecar drifts: {watch.said()[:3]}")
            for case in (one for one in listed.SIDECARS if wanted(one.name)):
                if case.edit == "copy":
                    (out / "sidecar-aside.json").write_text(path.read_text())
                else:
                    began(sidecar(good, case.edit))
                seconds, texts = alarm(lambda case=case: [one for one in watch.said() if case.named(one)], watch.said)
                made.append(Outcome(case, texts, 0, seconds))
                tell(made[-1])
                (out / "sidecar-aside.json").unlink(missing_ok=True)
                if case.edit != "copy":
                    began(good)
                house.until(lambda: not watch.said(), 30, f"the sidecar still drifts: {watch.said()[:3]}")
        finally:
            watch.end()
    return made


@contextlib.contextmanager
def running(house: House, good: dict[str, Any]) -> Iterator[Callable[[dict[str, Any]], None]]:
    """An Envoy of the sidecar's user; called with another document it is started anew on that one."""
    now: list[subprocess.Popen[bytes]] = []
    file, admin = house.folder / "started.json", Path(str(good["admin"]["address"]["pipe"]["path"]))

    def end() -> None:
        for process in now:
            process.kill()
            process.wait(5)
        now.clear()
        admin.unlink(missing_ok=True)

    def begin(document: dict[str, Any]) -> None:
        end()
        file.write_text(json.dumps(document))
        file.chmod(0o644)
        flags = ("--reject-unknown-dynamic-fields", "--disable-hot-restart", "--concurrency", "1", "-l", "error")
        with (house.folder / "sidecar.log").open("ab") as log:
            now.append(
                subprocess.Popen(
                    [str(envoy_binary()), "-c", str(file), *flags], user=UID, group=UID, extra_groups=[], stdout=log, stderr=log
                )
            )
        house.until(lambda: admin.exists() or now[0].poll() is not None, 20, "the sidecar did not open its pipe")
        if now[0].poll() is not None:
            raise RuntimeError((house.folder / "sidecar.log").read_text()[-2000:])

    begin(good)
    try:
        yield begin
    finally:
        end()


def sidecar(good: dict[str, Any], edit: str) -> dict[str, Any]:
    """One change of its document."""
    made = copy.deepcopy(good)
    (inward,) = [one for one in made["static_resources"]["listeners"] if one["name"] == "in"]
    context = inward["filter_chains"][0]["transport_socket"]["typed_config"]
    match edit:
        case "anybody":
            if not opened(inward):
                raise RuntimeError("there are no principals to open")
        case "no certificate":
            context["require_client_certificate"] = False
        case "listener":
            other = copy.deepcopy(inward)
            with socket.create_server(("127.0.0.1", 0)) as free:
                other["address"]["socket_address"]["port_value"] = free.getsockname()[1]
            made["static_resources"]["listeners"].append({**other, "name": "aside"})
    return made


def opened(node: Any) -> bool:
    """Whoever a rule names becomes anybody, wherever there is a rule."""
    changed = False
    if isinstance(node, dict):
        if isinstance(node.get("principals"), list):
            node["principals"], changed = [{"any": True}], True
        changed = max([changed, *(opened(one) for one in node.values())])
    elif isinstance(node, list):
        changed = max([False, *(opened(one) for one in node)])
    return changed


# --- null and sabotage ------------------------------------------------------------------------------------------------------------


def silent(house: House) -> Row:
    """Rule 5: a check that says nothing."""
    command = (sys.executable, "-c", 'print(\'{"ok":true,"findings":[]}\')')
    said = [house.policies(case.edit(house.good), house.folder / "changed", command=command) for case in listed.POLICIES]
    found = sum(Outcome(case, one.findings).found for case, one in zip(listed.POLICIES, said, strict=True))
    return Row(
        name="misconfig/null: a check that says nothing", value=found, unit=f"of {len(said)} found", goal="= 0", met=found == 0, n=len(said)
    )


def sabotaged(house: House) -> Row:
    """Rule 5: one lint is silent; both times on the files alone."""
    case = next(one for one in listed.POLICIES if one.name == NO_NAMES.of)
    text, folder = case.edit(house.good), house.folder / "changed"
    alone = ("--offline", "--against", str(house.folder / "lifecycle.cedar"), str(house.folder / "site.cedar"))
    with_it = Outcome(case, house.policies(text, folder, *alone).findings)
    with _package(NO_NAMES) as command:
        without = Outcome(case, house.policies(text, folder, *alone, command=command).findings)
    return Row(
        name=f"misconfig/sabotage: {NO_NAMES.name}", value=int(without.found), unit="of 1 found", goal="= 0",
        met=with_it.found and not without.found, n=1, note=f"`{case.name}`, found where the lint speaks: {'yes' if with_it.found else 'no'}",
    )  # fmt: skip


# --- all of it --------------------------------------------------------------------------------------------------------------------


def rows_of(groups: dict[str, list[Outcome]], clean: list[Outcome], good: int) -> list[Row]:
    """What was found, by where; what was said of harmless edits; alarms."""
    every = [one for some in groups.values() for one in some]
    rows = [share("misconfig/found, named", every)]
    rows += [share(f"misconfig/found {where}", some) for where, some in groups.items() if some]
    alarms = [one for one in every if one.found and one.seconds >= 0]
    if alarms:
        slowest = max(alarms, key=lambda one: one.seconds)
        late = sum(one.seconds > ALARM_SECONDS for one in alarms)
        rows.append(
            Row(name="misconfig/slowest alarm of drift", value=slowest.seconds, unit="s", goal=f"<= {ALARM_SECONDS:g}", met=not late, n=len(alarms),
                note=f"`{slowest.case.name}`; from the change to a reading that the control plane or `--watch` took by itself")
        )  # fmt: skip
    rows.append(Row(name="misconfig/findings on the good configuration", value=good, unit="findings", goal="= 0", met=good == 0, n=3))
    false, warned = [one for one in clean if one.errors], [one for one in clean if one.findings]
    rows.append(
        Row(name="misconfig/harmless edits called errors", value=len(false), unit=f"of {len(clean)}", goal="= 0", met=not false, n=len(clean),
            interval=share_interval(len(false), len(clean)), note=", ".join(one.case.name for one in false))
    )  # fmt: skip
    rows.append(
        Row(name="misconfig/harmless edits with a warning", value=len(warned), unit=f"of {len(clean)}", n=len(clean),
            interval=share_interval(len(warned), len(clean)), note=", ".join(one.case.name for one in warned))
    )  # fmt: skip
    return rows


def share(name: str, some: Sequence[Outcome]) -> Row:
    """How many were found."""
    missed = [one.case.name for one in some if not one.found]
    return Row(
        name=name, value=len(some) - len(missed), unit=f"of {len(some)}", goal=f"= {len(some)}", met=not missed, n=len(some),
        interval=share_interval(len(some) - len(missed), len(some)), note=f"missed: {', '.join(missed)}" if missed else "",
    )  # fmt: skip


def main() -> int:
    """Run, print, write build/figures/eval-misconfig.jsonl; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--only",
        nargs="*",
        default=[],
        help="entries whose name has one of these words, or policies|settings|gateway|sidecars|cluster|harmless",
    )
    only = parser.parse_args().only
    if os.geteuid() != 0:
        sys.stderr.write("a sidecar is a user of its own: start it as root\n")
        return 2

    def wanted(group: str) -> Callable[[str], bool]:
        return lambda name: not only or group in only or any(word in name for word in only)

    with _package(MEDDLED) as command, House(command) as house:
        switch = next(Path(command[0]).parents[1].glob("lib/*/site-packages/vouchgate/edges/envoy")) / "switch"
        house.caller("alice")
        until_good(house)
        good = house.policies(house.good, house.folder / "changed")
        settings = house.checked(house.good, house.folder / "changed")
        drift = house.drift()
        for text in (*good.findings, *settings.findings, *drift.findings, *good.other):
            sys.stdout.write(f"the good configuration: {text}\n")
        pick = lambda group, some: [one for one in some if wanted(group)(one.name)]  # noqa: E731
        groups = {
            "in policies": in_files(house, pick("policies", listed.POLICIES), house.policies, good),
            "in settings and crossings": in_files(house, pick("settings", listed.SETTINGS_CASES), house.checked, settings),
            "at the gateway": at_gateway(house, switch, wanted("gateway")),
            "at sidecars": at_sidecars(house, wanted("sidecars")) if pick("sidecars", listed.SIDECARS) else [],
            "in a cluster": at_cluster(house, wanted("cluster")) if pick("cluster", listed.CLUSTER) else [],
        }
        clean = harmless(house, good, pick("harmless", listed.HARMLESS))
        rows = rows_of(groups, clean, len(good.findings) + len(settings.findings) + len(drift.findings))
        if not only:
            rows += [silent(house), sabotaged(house)]
    if only:
        return exit_code(rows)
    emit("eval-misconfig", rows)
    return exit_code(rows)


if __name__ == "__main__":
    sys.exit(main())
