"""Every promise of the spine as a scene: starts the example on free ports, plays the scenes, ends it, says whether each ended as it should.

    python examples/digits/demo.py            one line a scene; exit 0 only if every scene ended as it should

It uses what anyone has: the `vouchgate` command, an HTTPS client, and, where it runs as root, another uid.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pickle
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VOUCHGATE = [str(Path(sys.executable).parent / "vouchgate")]
MODEL = ROOT / "build/digits/model.onnx"
LEASE_SECONDS = 2
PROOFS_COUNT_SECONDS = 10
"""After a start, proofs of possession count within this."""
NOBODY = 65534
IMAGE = [0.0] * 64
INFER = ("POST", "/v2/models/digits/infer", {"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP32", "data": IMAGE}]})
REVIEWED = ("POST", f"/reviewed{INFER[1]}", INFER[2])
CHAT_2 = ("POST", "/v1/chat/completions", {"model": "tiny-2", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]})
CROSSED = "#~ "
"""Before each line of the example's settings that declares what may pass between zones."""
MORE_ZONES = """
[zones.train]
lease_seconds = 2

[[endpoints]]
name = "reviewed"
zone = "serve"
upstream = "server:digits"
prefix = "/reviewed"
approvals = true
routes = [{ method = "POST", path = "/v2/models/digits/infer", action = "infer" }]

[[policies]]
path = "demo.cedar"
"""
MORE_POLICY = """// What is asked for here, a person agrees to, each time.
@id("demo-reviewed")
permit (principal in Group::"callers", action == Action::"infer", resource == Endpoint::"vg://example.local/endpoint/reviewed")
when { context.risk < 60 };

@id("demo-a-person-agrees")
@oblige("approval=role:approver")
forbid (principal, action == Action::"infer", resource == Endpoint::"vg://example.local/endpoint/reviewed");

// The second chat model, once somebody has looked at what is served.
@id("demo-testers-may-chat-with-tiny-2")
permit (principal in Group::"testers", action == Action::"chat", resource == Endpoint::"vg://example.local/endpoint/tiny-2")
when { resource.vouches.contains("serves@rederived") && context.risk < 60 };
"""
ONLY_CALLERS = 'permit (principal, action == Action::"infer", resource is Endpoint) unless { principal in Group::"callers" };'
"""As a question: whoever is no caller infers nothing. Not so in the example, whose jobs may at night."""


class Installation:
    """The example, started in a folder of its own; `change` may add to its settings."""

    def __init__(self, change: Callable[[str], str] = str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vg"))
        self.folder.chmod(0o711)
        self.settings = self.folder / "vouchgate.toml"
        text = (HERE / "vouchgate.toml").read_text(encoding="utf-8")
        for old, new in (
            ('"../../.vouchgate"', f'"{self.folder}/data"'),
            ('"../../vouchgate-root"', f'"{self.folder}/root"'),
            ('"../../build/digits/model.onnx"', f'"{MODEL}"'),
            ('path = "digits.cedar"', f'path = "{HERE}/digits.cedar"'),
            ("127.0.0.1:8443", "127.0.0.1:0"),
            ("127.0.0.1:8480", "127.0.0.1:0"),
            ("127.0.0.1:8444", "127.0.0.1:0"),
            ("127.0.0.1:8470", "127.0.0.1:0"),
            ("lease_seconds = 10", f"lease_seconds = {LEASE_SECONDS}"),
            ("command = [", f'folder = "{HERE}"\ncommand = ['),
        ):
            text = text.replace(old, new)
        self.settings.write_text(change(text), encoding="utf-8")
        (self.folder / "demo.cedar").write_text(MORE_POLICY, encoding="utf-8")
        self.log = self.folder / "up.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*VOUCHGATE, "up", "--config", str(self.settings)], stdout=log, stderr=log)
        self.gateway = ""
        self.data = self.folder / "data"

    def wait_ready(self) -> None:
        end = time.monotonic() + 30
        while "Ctrl-C" not in self.log.read_text(encoding="utf-8", errors="replace"):
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the example did not start:\n{self.log.read_text(encoding='utf-8', errors='replace')}")
            time.sleep(0.05)
        self.gateway = re.search(r"https://([^\s]+)", self.log.read_text(encoding="utf-8"))[1]  # type: ignore[index]

    def command(self, *arguments: str) -> tuple[int, Any]:
        """(exit code, answer) of one `vouchgate` command with --json."""
        done = subprocess.run(
            [*VOUCHGATE, *arguments, "--config", str(self.settings), "--json"], capture_output=True, text=True, timeout=60, check=False
        )
        try:
            return done.returncode, json.loads(done.stdout)
        except ValueError:
            return done.returncode, done.stdout + done.stderr

    def identity(self, name: str, *groups: str, zone: str = "serve") -> ssl.SSLContext:
        """A TLS context with a certificate for `name`."""
        folder = self.folder / name
        more = [word for group in groups for word in ("--group", group)]
        code, said = self.command("identity", "issue", "service", zone, name, "--out", str(folder), *more)
        if code:
            raise SystemExit(f"no identity for {name}: {said}")
        context = self.anonymous(folder)
        context.load_cert_chain(folder / "svid.pem", folder / "key.pem")
        return context

    def anonymous(self, folder: Path) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(folder / "bundle.pem"))
        context.check_hostname = False
        return context

    def connect(self, context: ssl.SSLContext) -> http.client.HTTPSConnection:
        host, _, port = self.gateway.rpartition(":")
        return http.client.HTTPSConnection(host, int(port), context=context, timeout=10)

    def call(self, context: ssl.SSLContext, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        link = self.connect(context)
        try:
            return ask(link, method, path, body)
        finally:
            link.close()

    def pids(self, name: str) -> int:
        _, said = self.command("status")
        return next(one["pid"] for one in said["status"]["processes"] if one["name"] == name)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def ask(link: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    """(status, document)."""
    link.request(method, path, json.dumps(body) if body is not None else None, {"content-type": "application/json"})
    answer = link.getresponse()
    content = answer.read()
    try:
        return answer.status, json.loads(content)
    except ValueError:
        return answer.status, {"text": content.decode("utf-8", "replace")}


def as_nobody(act: Callable[[], str]) -> str:
    """What happens when another uid does it; run in a child of its own."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            text = act()
        except Exception as error:
            text = f"refused: {type(error).__name__} {getattr(error, 'strerror', '') or error}"
        os.write(there, text.encode()[:500])
        os._exit(0)
    os.close(there)
    os.waitpid(child, 0)
    with os.fdopen(here, encoding="utf-8") as stream:
        return stream.read()


def knock(path: Path, request: bytes) -> str:
    """Connect to a unix socket, say something, tell what came back."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(3)
        link.connect(str(path))
        link.sendall(request)
        answer = link.recv(400)
    return f"answered: {answer[:80]!r}" if answer else "refused: it hung up at once"


def with_zones(settings: str) -> str:
    """The example's settings, its crossings declared, and what the scenes ask for beside."""
    head, _, crossings = settings.partition(CROSSED)
    return head + (CROSSED + crossings).replace(CROSSED, "").replace("\n#~\n", "\n\n") + MORE_ZONES


Scene = tuple[str, Callable[[], tuple[bool, str]]]


def scenes(here: Installation) -> Iterator[Scene]:
    """Name and play of each scene, in order; a play gives (as it should, what happened)."""
    carol = here.identity("carol", "callers")
    bob = here.identity("bob")
    anonymous = here.anonymous(here.folder / "carol")

    def allowed() -> tuple[bool, str]:
        status, said = here.call(carol, *INFER)
        return status == 200, f"{status}, digit {said['outputs'][0]['data'][0]}"

    def refused(context: ssl.SSLContext, expected: int, *request: Any) -> tuple[bool, str]:
        status, said = here.call(context, *request)
        return status == expected and bool(said.get("remedy")), f"{status}: {said.get('detail')}; {said.get('remedy')}"

    yield "an allowed call", allowed
    yield "a call without identity", lambda: refused(anonymous, 401, *INFER)
    yield "a call that policy denies", lambda: refused(bob, 403, *INFER)
    http_call = b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    for name, path, request in (
        ("the model, called directly as another uid", here.data / "upstreams/digits/server.sock", http_call),
        ("ext_authz, called directly as another uid", here.data / "pdp/ext_authz.sock", http_call),
        ("ADS, called directly as another uid", here.data / "control/ads.sock", preface),
        ("the gateway's admin, called as another uid", here.data / "gateway/admin.sock", b"GET /config_dump HTTP/1.1\r\nhost: x\r\n\r\n"),
    ):
        yield name, lambda path=path, request=request: direct(path, request)
    yield (
        "a chat whose body names another model",
        lambda: refused(carol, 403, "POST", "/v1/chat/completions", {"model": "tiny-2", "messages": [{"role": "user", "content": "hi"}]}),
    )
    yield "a streamed chat", lambda: streamed(here, carol)
    yield "a revocation on a live connection", lambda: revoked_live(here)
    yield "a workload fetches its identity, and is revoked", lambda: workload(here)
    yield "an agent acts for a caller, narrowed, with its own key", lambda: delegated(here)
    yield "a run ends and takes its credentials along", lambda: run_ended(here)
    yield "a caller of another zone, and its twin within", lambda: crossing(here)
    yield "a call that a person agrees to, once", lambda: approved(here, carol)
    yield "a waiver for one missing vouch, and its end", lambda: waived(here)
    yield "a statement about every request, refuted by one", lambda: refuted(here)
    yield "the gateway read back", lambda: read_back(here)
    yield "the control plane stopped", lambda: control_stopped(here, carol)
    yield "a model whose vouch is withdrawn", lambda: vouch_withdrawn(here, carol)
    yield "a pickle that acts, refused at import", lambda: pickle_refused(here)
    yield "the audit log verified, one byte flipped, verified again", lambda: log_flipped(here)


def direct(path: Path, request: bytes) -> tuple[bool, str]:
    if os.geteuid() != 0:
        return False, "not shown: without root every process has the same uid"
    said = as_nobody(lambda: knock(path, request))
    return said.startswith("refused"), said


def streamed(here: Installation, context: ssl.SSLContext) -> tuple[bool, str]:
    link = here.connect(context)
    body = {"model": "tiny-1", "stream": True, "max_tokens": 12, "messages": [{"role": "user", "content": "what is a vouch?"}]}
    link.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    answer = link.getresponse()
    begun, pieces, first = time.monotonic(), [], 0.0
    for line in answer:
        if line.startswith(b"data: {"):
            first = first or time.monotonic() - begun
            pieces.append(json.loads(line[6:])["choices"][0]["delta"].get("content", "") if b'"choices":[{' in line else "")
        if line.startswith(b"data: [DONE]"):
            break
    link.close()
    spread = time.monotonic() - begun - first
    return answer.status == 200 and len(
        pieces
    ) > 5 and spread > 0.05, f"{len(pieces)} events over {spread * 1000:.0f} ms: {''.join(pieces)[:60]!r}"


def revoked_live(here: Installation) -> tuple[bool, str]:
    """One keep-alive connection calls without pause while its identity is revoked."""
    link = here.connect(here.identity("mallory", "callers"))
    seen: list[tuple[float, int]] = []
    stop = threading.Event()

    def go() -> None:
        while not stop.is_set():
            status, _ = ask(link, "GET", "/v2/models/digits/ready")
            seen.append((time.monotonic(), status))

    calling = threading.Thread(target=go)
    calling.start()
    time.sleep(0.3)
    asked = time.monotonic()
    code, said = here.command("revoke", "mallory", "--reason", "laptop lost", "--yes")
    time.sleep(0.2)
    stop.set()
    calling.join()
    link.close()
    last_allowed = max((at for at, status in seen if status == 200), default=0.0)
    denied = [status for at, status in seen if at > last_allowed]
    enforced = said["points"][0] if code == 0 else {}
    good = bool(denied) and set(denied) == {403} and enforced.get("outcome") == "enforced"
    command_ms = (last_allowed - asked) * 1000
    return good, (
        f"acknowledged {enforced.get('after_ms')} ms after the control plane was asked; last allowed call {command_ms:.0f} ms after the "
        f"command began; then {len(denied)} refusals on the same connection"
    )


def workload(here: Installation) -> tuple[bool, str]:
    """This very process asks the Workload API who it is; a registration said which facts earn the name."""
    uid = os.geteuid()
    here.command("identity", "register", "service", "serve", "worker", "--selector", f"unix:uid={uid}", "--group", "callers")
    folder = here.folder / "worker"
    code, said = here.command("identity", "watch", "--once", "--save", str(folder))
    if code:
        return False, f"no identity: {said}"
    context = here.anonymous(folder)
    context.load_cert_chain(folder / "svid.pem", folder / "svid.key")
    status, _ = here.call(context, *INFER)
    here.command("revoke", "worker", "--reason", "moved away", "--yes")
    gone, _ = here.call(context, *INFER)
    again, answer = here.command("identity", "watch", "--once")
    good = (status, gone) == (200, 403) and again != 0
    return good, f"{status} with it; revoked: {gone}, and the Workload API says {str(answer).strip().splitlines()[0][:90]}"


def delegated(here: Installation) -> tuple[bool, str]:
    """Dora is a caller; the agent exchanges her token for one that may only infer, is bound to the agent's key, and is replayed in vain."""
    here.identity("dora", "callers")
    files = {name: here.folder / name for name in ("dora.jwt", "helper.jwt", "token")}
    for name, who in (("dora.jwt", ("service", "serve", "dora")), ("helper.jwt", ("agent", "agents", "helper"))):
        _, said = here.command("identity", "issue", *who, "--jwt", "--audience", "sts")
        files[name].write_text(said["token"])
    key = here.folder / "dora" / "key.pem"
    wanted = ("--subject", str(files["dora.jwt"]), "--actor", str(files["helper.jwt"]), "--key", str(key))
    made: list[tuple[int, Any]] = []

    def exchanged() -> bool:
        made.append(here.command("token", "exchange", "digits", "--scope", "infer:digits", *wanted))
        return made[-1][0] == 0

    # for some seconds after a start no proof counts: one used before it cannot be told apart
    if not until(exchanged, PROOFS_COUNT_SECONDS):
        return False, f"no token: {made[-1][1]}"
    said = made[-1][1]
    files["token"].write_text(said["access_token"])
    anonymous = here.anonymous(here.folder / "dora")

    def proof(method: str, path: str) -> str:
        url = f"https://{here.gateway}{path}"
        command = [*VOUCHGATE, "token", "proof", method, url, "--key", str(key), "--token", str(files["token"])]
        done = subprocess.run([*command, "--config", str(here.settings)], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    def call(method: str, path: str, body: Any, shown: str) -> int:
        link = here.connect(anonymous)
        headers = {"content-type": "application/json", "authorization": f"DPoP {said['access_token']}", "dpop": shown}
        link.request(method, path, json.dumps(body) if body else None, headers)
        status = link.getresponse().status
        link.close()
        return status

    method, path, body = INFER
    shown: list[str] = []

    def let_in() -> bool:
        shown.append(proof(method, path))
        return call(method, path, body, shown[-1]) == 200

    if not until(let_in, PROOFS_COUNT_SECONDS):
        return False, "no call with the token"
    seen = [200, call(method, path, body, shown[-1])]
    seen.append(call("GET", "/v2/models/digits", None, proof("GET", "/v2/models/digits")))
    here.command("revoke", "dora", "--reason", "left", "--yes")
    seen.append(call(method, path, body, proof(method, path)))
    return seen == [
        200,
        401,
        403,
        403,
    ], f"infer {seen[0]}, the same proof again {seen[1]}, another action {seen[2]}, dora revoked {seen[3]}"


def run_ended(here: Installation) -> tuple[bool, str]:
    """A job's certificate is bound to one run."""
    here.command("identity", "register", "job", "serve", "grader", "--group", "callers")
    code, begun = here.command("runs", "begin", "grader", "evaluate")
    if code:
        return False, f"no run: {begun}"
    folder = here.folder / "grader"
    run = begun["run"]["id"]
    here.command("identity", "issue", "job", "serve", "grader", "--run", run, "--out", str(folder))
    context = here.anonymous(folder)
    context.load_cert_chain(folder / "svid.pem", folder / "key.pem")
    link = here.connect(context)
    status, _ = ask(link, *INFER)
    at = time.monotonic()
    here.command("runs", "end", run, "--reason", "done")
    after, _ = ask(link, *INFER)
    link.close()
    return (status, after) == (
        200,
        403,
    ), f"{status} while {run} goes on; {after} on the same connection {(time.monotonic() - at) * 1000:.0f} ms after its end"


def crossing(here: Installation) -> tuple[bool, str]:
    """Two callers of one group, the one in a zone from which no crossing is declared."""
    outside = here.identity("trainer", "callers", zone="train")
    inside = here.identity("twin", "callers")
    status, said = here.call(outside, *INFER)
    twin, _ = here.call(inside, *INFER)
    good = (status, twin) == (403, 200) and "no crossing is declared" in str(said.get("detail"))
    return good, f"{status}: {said.get('detail')}; the same caller in zone serve {twin}"


def approved(here: Installation, context: ssl.SSLContext) -> tuple[bool, str]:
    """Refused until a person agrees to exactly these bytes; worth one call."""
    status, _ = here.call(context, *REVIEWED)
    code, waiting = here.command("approve", "list")
    if code or not waiting:
        return False, f"{status}, and nothing waits: {waiting}"
    here.command("approve", "give", waiting[0]["id"])
    other, _ = here.call(context, *REVIEWED[:2], {**INFER[2], "id": "another"})
    let_in, _ = here.call(context, *REVIEWED)
    again, _ = here.call(context, *REVIEWED)
    seen = (status, other, let_in, again)
    return seen == (403, 403, 200, 403), f"{status} until a person agrees; another body {other}; the same {let_in}; once more {again}"


def waived(here: Installation) -> tuple[bool, str]:
    """The second chat model is served, and nobody has looked at what: one string is missing."""
    tester = here.identity("tester", "testers")
    before, said = here.call(tester, *CHAT_2)
    subject = "vg://example.local/endpoint/tiny-2"
    code, waiver = here.command("waive", "serves@rederived", "--for", subject, "--until", "2d", "--why", "shown to the board")
    if code:
        return False, f"no waiver: {waiver}"
    let_in, _ = here.call(tester, *CHAT_2)
    here.command("revoke", waiver["id"], "--kind", "vouch", "--reason", "the board has seen it", "--yes")
    after, _ = here.call(tester, *CHAT_2)
    good = (before, let_in, after) == (403, 200, 403)
    return (
        good,
        f"{before}, missing {', '.join(one['predicate'] for one in said.get('missing', ()))}; waived for two days {let_in}; the waiver revoked {after}",
    )


def refuted(here: Installation) -> tuple[bool, str]:
    code, said = here.command("policy", "prove", "--never", ONLY_CALLERS)
    return code == 1 and said["verdict"] == "refuted", f"only callers infer: {said['sentence'][:170]}"


def read_back(here: Installation) -> tuple[bool, str]:
    code, said = here.command("zones", "drift")
    return code == 0 and said["ok"], f"{said['points'][0]['resources']} resources are enforced as they are meant"


def control_stopped(here: Installation, context: ssl.SSLContext) -> tuple[bool, str]:
    pid = here.pids("control")
    os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        link = here.connect(context)
        status, said = ask(link, *INFER)
        first = status
        while status == 200 and time.monotonic() - stopped < LEASE_SECONDS + 5:
            time.sleep(0.02)
            status, said = ask(link, *INFER)
        after = time.monotonic() - stopped
        link.close()
    finally:
        os.kill(pid, signal.SIGCONT)
    back = until(lambda: here.call(context, *INFER)[0] == 200, 15)
    good = first == 200 and status == 503 and after <= LEASE_SECONDS + 0.5 and back
    return (
        good,
        f"allowed until the lease of {LEASE_SECONDS} s ran out, {status} after {after:.2f} s: {said.get('detail')}; back when it goes on",
    )


def until(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if true():
                return True
        time.sleep(0.05)
    return False


def vouch_withdrawn(here: Installation, context: ssl.SSLContext) -> tuple[bool, str]:
    _, said = here.command("evidence", "show", "digits")
    scan = next(one["id"] for state in said for one in state["vouches"] if one["predicate"] == "scan")
    begun = time.monotonic()
    code, revoked = here.command("revoke", scan, "--reason", "the scanner missed something", "--yes")
    if code:
        return False, f"not revoked: {revoked}"
    fell = until(lambda: here.call(context, *INFER)[0] == 403, 3)
    after = time.monotonic() - begun
    status, answer = here.call(context, *INFER)
    here.command("revoke", "--undo", revoked["revocation"]["id"], "--reason", "looked again")
    back = until(lambda: here.call(context, *INFER)[0] == 200, 3)
    good = fell and back and bool(answer.get("missing"))
    return good, f"{status} {after * 1000:.0f} ms after the command began: {answer.get('detail')}; undone, allowed again: {back}"


class Acting:
    """Pickled, it is a call of `os.system`; the demo never loads it."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("true",)


def pickle_refused(here: Installation) -> tuple[bool, str]:
    path = here.folder / "weights.safetensors"
    path.write_bytes(pickle.dumps({"weights": [1.0, 2.0], "touch": Acting()}, protocol=4))
    code, said = here.command("import", str(path))
    good = code == 1 and said["admitted"] is False and bool(said["remedy"])
    return good, f"a pickle named .safetensors: {said['reason']}; {said['remedy']}" if isinstance(said, dict) else str(said)


def log_flipped(here: Installation) -> tuple[bool, str]:
    code, whole = here.command("audit", "verify")
    path = here.data / "control/store.db"
    with contextlib.closing(sqlite3.connect(path, timeout=5)) as store, store:
        row, bundle = store.execute("SELECT rowid, bundle FROM chunk ORDER BY first LIMIT 1 OFFSET 3").fetchone()
        at = len(bundle) // 2
        store.execute("UPDATE chunk SET bundle = ? WHERE rowid = ?", (bundle[:at] + bytes([bundle[at] ^ 1]) + bundle[at + 1 :], row))
    broken_code, broken = here.command("audit", "verify")
    with contextlib.closing(sqlite3.connect(path, timeout=5)) as store, store:
        store.execute("UPDATE chunk SET bundle = ? WHERE rowid = ?", (bundle, row))
    again, _ = here.command("audit", "verify")
    good = code == 0 and broken_code == 1 and again == 0 and not broken["ok"]
    return good, f"{whole['size']} entries hold; flipped: {broken['problems'][0]}; put back: holds"


def main() -> int:
    """Play every scene."""
    if not MODEL.exists():
        print(f"there is no model {MODEL}; run `make example` first")
        return 2
    begun = time.monotonic()
    here = Installation(with_zones)
    failed = 0
    try:
        here.wait_ready()
        print(f"started in {time.monotonic() - begun:.1f} s")
        for name, play in scenes(here):
            at = time.monotonic()
            try:
                good, what = play()
            except Exception as error:
                good, what = False, f"{type(error).__name__}: {error}"
            failed += not good
            print(f"{'ok  ' if good else 'FAIL'} {(time.monotonic() - at) * 1000:6.0f} ms  {name}: {what}", flush=True)
    finally:
        here.end()
    print("every scene ended as it should" if not failed else f"{failed} scenes did not end as they should")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
