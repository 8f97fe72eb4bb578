"""Every command against the real server around the in-memory surface: exit code, what is said, and what is never said."""

from __future__ import annotations

import inspect
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_private_key
from surface_memory import DIGEST, TD, MemorySurface
from surface_served import Served

from vouchgate.edges.cli import main as cli
from vouchgate.edges.cli.installation import Installation, installation
from vouchgate.vocabulary.answers_upkeep import DoctorCheck, InitOutcome, RestoreOutcome


@pytest.fixture
def wired(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...]]]:
    """Stands in for wiring and remembers what it was asked."""
    asked: list[tuple[str, tuple[Any, ...]]] = []

    class Twin:
        def up(self, settings: Any, path: Path, ask: Any) -> int:
            asked.append(("up", (settings, path)))
            return 0

        def init(self, settings: Any, path: Path, ask: Any) -> InitOutcome:
            asked.append(("init", (settings, path)))
            return InitOutcome(
                settings=str(path),
                data_dir=settings.data_dir,
                root_dir=settings.root_dir,
                root_fingerprint="SHA256:ab",
                bootstrap_token="tok",
            )

        def restore(self, settings: Any, backup: Path, *, revocations: Path | None, plan: bool) -> RestoreOutcome:
            asked.append(("restore", (backup, revocations, plan)))
            return RestoreOutcome(log_size=9, epoch=3, detail="as of an hour ago")

        def doctor(self, settings: Any) -> list[DoctorCheck]:
            asked.append(("doctor", (settings,)))
            return [DoctorCheck(name="envoy", state="ok", detail="1.40.0")]

    for name in ("up", "init", "restore", "doctor"):
        module = f"vouchgate.edges.cli.commands.{name}.installation"
        monkeypatch.setattr(module, Twin)
    return asked


# --- help, usage, errors


def test_help_shows_exactly_the_eight(vg: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:10]] == ["wrap", "adopt", "why", "revoke", "scan", "run", "status", "doctor"]
    assert lines[10] == ""


def every_command() -> list[str]:
    return [*cli.DAILY, *cli.OTHER, *(f"{noun} {verb}" for noun, verbs in cli.NOUNS.items() for verb in verbs)]


@pytest.mark.parametrize("command", every_command())
def test_every_listed_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_help_all_lists_everything(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["help", "all"])
    said = capsys.readouterr().out
    for command in every_command():
        assert f"\n  {command} " in said


def test_every_command_file_is_listed() -> None:
    folder = Path(cli.__file__).parent / "commands"
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert files == {command.replace(" ", "_").replace("-", "_").replace("import", "import_artifact") for command in every_command()}


def test_help_imports_next_to_nothing() -> None:
    code = (
        "import sys; from vouchgate.edges.cli.main import main; main(['--help']); print(sorted(m for m in sys.modules if m.split('.')[0] in "
        "('vouchgate','msgspec','starlette','argparse','cryptography','asyncio')))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    assert said == "['vouchgate', 'vouchgate.edges', 'vouchgate.edges.cli', 'vouchgate.edges.cli.main']"


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("statsu", "`status`"), ("accept-clock", "`admin accept-clock`"), ("audit verfy", "`audit verify`"), ("revok x", "`revoke`"), ("x" * 500, "--help"),
        ("policy", ""), ("", ""), ("\x1b[2J", "--help"), ("status --jsno", "`--json`"), ("adopt lab --enfroce", "`--enforce`"), ("wrap", "--help"),
        ("adopt lab --plan --enforce", "--help"), ("why", "why 4711"), ("why a b c d", "why 4711"), ("revoke", "--reason"), ("revoke x", "--reason"),
        ("revoke x --undo y --reason z", "--reason"), ("identity issue service serve shop --jwt", "--audience"),
        ("identity issue service serve shop --audience x", "--audience"), ("revoke x --reason y --kind everything", "--help"),
        ("identity issue service serve shop --ttl soon", "--help"),
    ],
)  # fmt: skip
def test_usage_errors_are_2_and_say_what_to_do(line: str, near: str, capsys: pytest.CaptureFixture[str], api: Served) -> None:
    assert cli.main(line.split()) == 2
    said = capsys.readouterr()
    assert near in said.err
    assert "Traceback" not in said.err
    assert "\x1b" not in said.err
    assert api.surface.asked == []


def test_without_a_control_plane_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--socket", str(tmp_path / "none.sock")]) == 3
    assert "`vouchgate up`" in capsys.readouterr().err


def test_an_error_is_json_where_json_was_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--json", "--socket", str(tmp_path / "none.sock")]) == 3
    assert json.loads(capsys.readouterr().out)["error"] == "unavailable"


def test_without_settings_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["status"]) == 2
    assert "vouchgate init" in capsys.readouterr().err


def test_bad_settings_name_line_and_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "vouchgate.toml"
    path.write_text('trust_domain = "a"\n[gateway]\nlistn = "x"\n')
    assert cli.main(["config", "check", "--config", str(path)]) == 2
    said = capsys.readouterr().err
    assert "line 3" in said
    assert "did you mean `listen`?" in said


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}", b"not http\r\n\r\n", b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull", b"HTTP/1.1 404 No\r\ncontent-length: 20\r\n\r\n[" + b"1" * 18 + b"]",
        b"HTTP/1.1 200 OK\r\nvouchgate-now: soon\r\ncontent-length: 2\r\n\r\n{}",
    ],
)  # fmt: skip
def test_a_control_plane_that_answers_nonsense_is_an_error(answer: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    import socket
    import tempfile
    import threading

    folder = tempfile.mkdtemp(prefix="vg")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{folder}/s")
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(answer)
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    code = cli.main(["status", "--socket", f"{folder}/s"])
    thread.join()
    listener.close()
    assert code in (2, 3)
    assert "fix" in capsys.readouterr().err


# --- why


def test_why_denied_tells_the_whole_story(vg: Any) -> None:
    code, said, _ = vg("why", "bob", "digits")
    assert code == 1
    order = ["denied", "who", "what", "because", "evidence", "path", "fix", "record"]
    places = [said.index(word) for word in order]
    assert places == sorted(places)
    assert "verified: observed by us on the bytes" in said
    assert "expired 12 min ago" in said
    assert "$ vouchgate scan models/digits.onnx" in said
    assert "digits.cedar:4" in said


def test_why_allowed_is_0(vg: Any) -> None:
    code, said, _ = vg("why", "alice", "infer", "digits")
    assert code == 0
    assert said.startswith("✓ allowed")
    assert "fix" not in said


def test_why_of_a_recorded_decision(vg: Any, api: Served) -> None:
    api.add(effect="deny", would_be="deny", decision_id="4711aa")
    code, said, _ = vg("why", "4711aa")
    assert code == 1
    assert "log entry 1" in said
    assert vg("why", "none")[0] == 2


def test_a_hostile_name_cannot_repaint_the_terminal(vg: Any) -> None:
    _, said, _ = vg("why", "bob\x1b[2J\u202e\x07", "digits")
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "\\u001b" in said.lower()


# --- acts


def test_revoke_shows_a_plan_and_changes_nothing_unasked(vg: Any, api: Served) -> None:
    code, said, _ = vg("revoke", DIGEST, "--reason", "leaked")
    assert code == 1
    assert "would be withdrawn" in said
    assert "nothing was changed" in said
    assert api.surface.revoked == {}


def test_revoke_says_where_it_is_enforced(vg: Any, api: Served) -> None:
    code, said, _ = vg("revoke", DIGEST, "--reason", "leaked", "--yes")
    assert code == 0
    assert "gateway: enforced, acknowledged after 5.8 ms" in said
    assert "edge-2: not acknowledged: expires by lease in 10 s" in said
    assert "$ vouchgate revoke --undo" in said
    assert DIGEST in api.surface.revoked
    assert vg("revoke", DIGEST, "--reason", "again", "--yes")[0] == 3


def test_revoke_plan_needs_no_reason(vg: Any, api: Served) -> None:
    assert vg("revoke", "alice", "--plan")[0] == 0
    assert api.surface.revoked == {}


def test_undo_waits_for_another_person(vg: Any) -> None:
    code, said, _ = vg("revoke", "--undo", "5f5f", "--reason", "mistake")
    assert code == 1
    assert "another person" in said


def test_adopt_plans_first(vg: Any, api: Served) -> None:
    code, said, _ = vg("adopt", "lab")
    assert code == 1
    assert "would have refused 21 of 37 calls" in said
    assert "addr-10.0.0.7 (declared)" in said
    code, said, _ = vg("adopt", "lab", "--enforce")
    assert code == 1
    assert api.surface.modes["lab"] == "observe"
    code, said, _ = vg("adopt", "lab", "--enforce", "--yes")
    assert code == 0
    assert api.surface.modes["lab"] == "enforce"
    assert vg("adopt", "lab", "--observe")[0] == 0
    assert api.surface.modes["lab"] == "observe"
    assert vg("adopt", "nowhere")[0] == 2


@pytest.mark.parametrize(
    ("upstream", "name"),
    [
        ("http://127.0.0.1:9000", "127.0.0.1-9000"),
        ("tcp:127.0.0.1:9000", "127.0.0.1-9000"),
        ("unix:/run/Legacy.sock", "legacy.sock"),
        ("http://shop:80/x", "shop-80"),
    ],
)
def test_wrap_finds_a_name(vg: Any, api: Served, upstream: str, name: str) -> None:
    code, said, _ = vg("wrap", "--upstream", upstream)
    assert code == 0
    assert api.surface.asked[-1][1].name.endswith(name)
    assert "vouchgate adopt wrapped --plan" in said


def test_import_and_its_refusal(vg: Any, api: Served, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"model")
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04")
    code, said, _ = vg("import", "m.onnx", "--zone", "serve")
    assert code == 0
    assert "admitted" in said
    assert api.surface.asked[-1][1][1] == b"model"
    code, said, _ = vg("import", "m.pkl")
    assert code == 1
    assert "safetensors" in said
    assert vg("import", "none.onnx")[0] == 2
    assert vg("import", ".")[0] == 2


# --- identity


def test_a_private_key_stays_here(vg: Any, api: Served, tmp_path: Path) -> None:
    code, said, _ = vg("identity", "issue", "service", "serve", "shop", "--group", "callers", "-o", "id")
    assert code == 0
    asked = api.surface.asked[-1][1]
    assert asked.groups == ("callers",)
    key_file = tmp_path / "id" / "key.pem"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key = load_pem_private_key(key_file.read_bytes(), None)
    assert key.public_key() == load_der_public_key(asked.spki)
    assert "PRIVATE" not in said
    assert "PRIVATE" not in (tmp_path / "id" / "svid.pem").read_text()


def test_a_key_is_not_written_through_a_link(vg: Any, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "id").mkdir()
    (tmp_path / "id" / "key.pem").symlink_to(victim)
    assert vg("identity", "issue", "service", "serve", "shop", "-o", "id")[0] == 0
    assert victim.read_text() == "mine"
    assert not (tmp_path / "id" / "key.pem").is_symlink()


def test_a_token_stands_alone_on_standard_output(vg: Any) -> None:
    code, said, _ = vg("identity", "issue", "person", "office", "alice", "--jwt", "--audience", f"vg://{TD}/endpoint/digits")
    assert (code, said) == (0, "aaa.bbb.ccc\n")


# --- run


RUNNER = """
import sys, os
sys.path[:0] = [{tests!r}]
from surface_served import Served
from vouchgate.edges.cli.main import main
with Served() as api:
    before = {words!r}
    code = main(["run", "--socket", str(api.socket), *before])
    print("asked", [(verb, asked.form) for verb, asked in api.surface.asked])
sys.stdout.flush()
os._exit(code)
"""


def run_under(words: list[str], tmp_path: Path) -> subprocess.Popen[str]:
    code = RUNNER.format(tests=str(Path(__file__).parents[1] / "api"), words=words)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )


CHILD = (
    "import os,stat;p=os.environ['VOUCHGATE_KEY'];print(oct(os.stat(p).st_mode & 0o777), oct(os.stat(os.path.dirname(p)).st_mode & 0o777),"
    "os.environ['VOUCHGATE_ID'], open(os.environ['VOUCHGATE_CERT']).read()[:27], os.environ.get('VOUCHGATE_TOKEN','-')[-3:]);raise SystemExit(7)"
)


def test_run_gives_an_identity_and_wipes_it(tmp_path: Path) -> None:
    child = run_under(["--name", "train", "--audience", "vg://x/endpoint/y", "--", sys.executable, "-c", CHILD], tmp_path)
    said, errors = child.communicate(timeout=60)
    assert child.returncode == 7, errors
    assert "0o600 0o700 spiffe://test.local/job/serve/train -----BEGIN CERTIFICATE----- jwt" in said
    assert "('issue-identity', 'x509'), ('issue-identity', 'jwt')" in said
    assert list(tmp_path.glob("vouchgate-run-*")) == []


GUARDED = """
import os, pickle, subprocess, sys
with open("model.pkl", "wb") as file:
    pickle.dump(1, file)
for words in ([], [sys.executable, "-c", "import pickle; pickle.load(open('model.pkl', 'rb'))"]):
    if words:
        done = subprocess.run(words, capture_output=True, text=True)
        print("child", done.returncode, "LoadRefused" in done.stderr, "missing `scan`" in done.stderr)
    else:
        try:
            pickle.load(open("model.pkl", "rb"))
        except Exception as error:
            print("refused", type(error).__name__, os.environ["VOUCHGATE_GUARD_PURPOSE"])
"""


def test_run_guards_the_command_and_its_children(tmp_path: Path) -> None:
    words = ["--name", "serve", "--guard", "--purpose", "trial", "--", sys.executable, "-c", GUARDED]
    said, errors = run_under(words, tmp_path).communicate(timeout=60)
    assert "refused LoadRefused trial" in said, errors
    assert "child 1 True True" in said


def test_what_goes_with_the_guard_is_refused_without_it(vg: Any, api: Served) -> None:
    for words in (["--purpose", "x"], ["--endpoint", "x"], ["--store", "x"]):
        assert vg("run", *words, "--", "true")[0] == 2


def test_run_wipes_after_a_signal(tmp_path: Path) -> None:
    child = run_under(["--name", "train", "--", sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"], tmp_path)
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    assert len(list(tmp_path.glob("vouchgate-run-*"))) == 1
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=20)
    assert child.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.glob("vouchgate-run-*")) == []


def test_run_starts_nothing_without_an_identity(vg: Any, api: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vouchgate.vocabulary.errors import NotPermitted

    api.surface.fail_with = NotPermitted("no", remedy="ask")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert vg("run", "--name", "x", "--", "touch", "started")[0] == 1
    assert not (tmp_path / "started").exists()
    assert list(tmp_path.glob("vouchgate-run-*")) == []
    assert vg("run", "--", "no-such-program")[0] == 2


# --- audit, policy, backup, the rest


def test_audit(vg: Any, tmp_path: Path) -> None:
    assert vg("audit", "verify")[0] == 0
    (tmp_path / "old").write_text("forged")
    code, said, _ = vg("audit", "verify", "--against", "old")
    assert code == 1
    assert "does not extend" in said
    assert vg("audit", "verify", "--against", "none")[0] == 2
    assert vg("audit", "prove", "7")[1].startswith("c2sp.org/tlog-proof@v1")
    assert vg("audit", "prove", "7", "-o", "proof")[0] == 0
    assert (tmp_path / "proof").read_text().startswith("c2sp.org")
    assert "allowed infer on digits" in vg("audit", "show")[1]
    assert "test.local/log" in vg("audit", "checkpoint")[1]


def test_policy(vg: Any, tmp_path: Path, api: Served) -> None:
    (tmp_path / "good.cedar").write_text("permit (principal, action, resource);")
    (tmp_path / "bad.cedar").write_text("allow everything")
    assert vg("policy", "check", "good.cedar")[0] == 0
    code, said, _ = vg("policy", "check", "bad.cedar")
    assert code == 1
    assert "line 1: expected a policy" in said
    assert vg("policy", "check", "none.cedar")[0] == 2
    assert "permit" in vg("policy", "show")[1]
    assert vg("policy", "apply", "good.cedar", "--reason", "x")[0] == 1
    assert [verb for verb, _ in api.surface.asked].count("policy-apply") == 0
    code, said, _ = vg("policy", "apply", "good.cedar", "--reason", "x", "--yes")
    assert code == 1
    assert "waits for another policy-approver" in said


def test_backup_is_private_and_never_overwrites(vg: Any, tmp_path: Path, api: Served) -> None:
    assert vg("backup", "b")[0] == 0
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600
    assert (tmp_path / "b").stat().st_size == 7000
    assert vg("backup", "b")[0] == 3
    assert (tmp_path / "b").stat().st_size == 7000
    api.surface.fail_with = ValueError("broken")
    assert vg("backup", "c")[0] == 3
    assert not (tmp_path / "c").exists()
    assert vg("backup", "no/such/folder")[0] == 2


def test_status_is_1_while_something_must_be_done(vg: Any, api: Served) -> None:
    code, said, _ = vg("status")
    assert code == 1
    assert said.index("chat is refused for everyone") < said.index("gateway")
    assert "1 of 2 hold" in said
    api.surface.needs.clear()
    assert vg("status")[0] == 0


@pytest.mark.parametrize(
    "line",
    [
        "status",
        "zones list",
        "identity list",
        "evidence show",
        "evidence show digits",
        "audit show",
        "policy show",
        "admin login",
        "revoke alice --plan",
        "adopt lab",
        "why alice digits",
        "audit verify",
    ],
)
def test_json_is_the_whole_answer_and_nothing_else(vg: Any, line: str) -> None:
    _, said, errors = vg(*line.split(), "--json")
    assert json.loads(said)
    assert errors == ""


def test_the_rest_answers(vg: Any) -> None:
    assert "observe" in vg("zones", "list")[1]
    assert "revoked" in vg("identity", "list")[1]
    code, said, _ = vg("evidence", "show")
    assert code == 1
    assert "nobody has said which model answers" in said
    assert vg("evidence", "show", "digts")[0] == 2
    assert "login#" in vg("admin", "login")[1]
    assert vg("admin", "claim", "bootstrap-token")[0] == 0
    assert vg("admin", "claim", "bootstrap-token")[0] == 1
    assert vg("admin", "accept-clock", "--reason", "checked")[0] == 0


def test_follow_goes_on_until_it_is_interrupted(api: Served) -> None:
    """In a process of its own: a signal to this one could fall into any of its destructors and be lost."""
    # a shell's background job ignores interrupts, and hands that on
    heeding = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from vouchgate.edges.cli.main import main; "
    command = [sys.executable, "-c", f"{heeding}sys.exit(main(sys.argv[1:]))", "audit", "show", "--follow", "--socket", str(api.socket)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
        try:
            deadline = time.monotonic() + 30
            while not api.surface.listeners and time.monotonic() < deadline:
                time.sleep(0.01)
            api.add(effect="deny", would_be="deny", reason="no identity", path="/\x1b[2J")
            assert following.stdout is not None
            first = following.stdout.readline()
            following.send_signal(signal.SIGINT)
            said = first + following.communicate(timeout=30)[0]
        finally:
            following.kill()
    assert following.returncode == 130
    assert b"no identity" in said
    assert b"\x1b" not in said


# --- what works without a control plane


def test_init_writes_settings_that_parse(
    wired: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["init", "--trust-domain", "shop.test", "--settings-only"]) == 0
    assert cli.main(["config", "check"]) == 0
    assert cli.main(["init", "--settings-only"]) == 3
    assert cli.main(["init", "--trust-domain", "other.test"]) == 0
    assert wired[0][0] == "init"
    assert wired[0][1][0].trust_domain == "shop.test"
    said = capsys.readouterr().out
    assert "vouchgate admin claim tok" in said
    assert cli.main(["up"]) == 0
    assert wired[-1][0] == "up"


def test_init_refuses_a_bad_trust_domain_before_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["init", "--trust-domain", "Bad Domain", "--settings-only"]) == 2
    assert cli.main(["init", "--root-dir", "data/root", "--settings-only"]) == 2
    assert not (tmp_path / "vouchgate.toml").exists()


def test_restore_plans_first(wired: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cli.main(["init", "--settings-only"])
    (tmp_path / "b").write_text("x")
    assert cli.main(["restore", "b"]) == 1
    assert [call[1][2] for call in wired] == [True]
    assert cli.main(["restore", "b", "--yes"]) == 0
    assert [call[1][2] for call in wired] == [True, True, False]
    assert cli.main(["restore", "none"]) == 2


def test_doctor_goes_on_without_settings(
    wired: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["doctor"]) == 1
    assert wired == [("doctor", (None,))]
    said = capsys.readouterr().out
    assert "vouchgate init" in said
    assert "1.40.0" in said


@pytest.mark.parametrize(
    "name",
    [
        "up",
        "init",
        "restore",
        "doctor",
        "scan",
        "now",
        "renew_ca",
        "renew_trust",
        "move_keys",
        "change_passphrase",
        "forget_passphrase",
        "try_pin",
    ],
)
def test_wiring_has_what_the_commands_call(name: str) -> None:
    wanted = inspect.signature(getattr(Installation, name))
    real = inspect.signature(getattr(installation(), name))
    assert list(real.parameters) == list(wanted.parameters)[1:]


def test_the_terminal_gets_colours_and_a_pipe_does_not() -> None:
    from vouchgate.edges.cli.printing import Printer

    for colors in (True, False):
        out = io.StringIO()
        Printer(out, colors=colors).marked("bad", "x")
        assert ("\x1b[31m" in out.getvalue()) is colors


def test_memory_surface_is_complete() -> None:
    from vouchgate.edges.api.surface import Surface

    wanted = {name: value for name, value in vars(Surface).items() if not name.startswith("_")}
    for name, value in wanted.items():
        assert list(inspect.signature(value).parameters) == list(inspect.signature(getattr(MemorySurface, name)).parameters), name
