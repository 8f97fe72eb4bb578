"""What the kernel says of real processes: hostile, changing, ending, of other users, in other namespaces."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vouchgate.identity.catalog import attest, match
from vouchgate.ports import attest as port
from vouchgate.ports.attest import Collector, alive, look, peer
from vouchgate.vocabulary.errors import InvalidInput, NotFound, Unverified
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Registration

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts processes as other users and in other namespaces")
WAIT = "import sys; print('up', flush=True); sys.stdin.read()"


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a process and waits until it is up."""
    started: list[subprocess.Popen[bytes]] = []

    def go(*argv: str, **more: Any) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(argv or (sys.executable, "-c", WAIT), stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)
        started.append(child)
        assert child.stdout is not None and child.stdout.readline()
        return child

    yield go
    for child in started:
        child.kill()
        child.wait()


def sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def own_copy(tmp_path: Path, name: str = "prog") -> Path:
    """A program of one's own: waits on its input like `cat`."""
    made = tmp_path / name
    made.write_bytes(Path("/bin/cat").resolve().read_bytes())
    made.chmod(0o755)
    return made


def started(path: Path, **more: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([str(path)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, **more)


def test_a_process_is_told_by_what_the_kernel_runs(start):
    child = start()
    facts = Collector().facts(child.pid)
    exe = str(Path(sys.executable).resolve())
    assert (facts["pid"], facts["uid"], facts["gid"], facts["real_uid"], facts["contained"]) == (
        child.pid,
        os.geteuid(),
        os.getegid(),
        os.geteuid(),
        False,
    )
    assert facts["exe_path"] == exe and facts["exe_sha256"] == sha256(exe), "of a script, the interpreter"
    assert facts["cgroups"] == Path(f"/proc/{child.pid}/cgroup").read_text().splitlines()
    boot = float(Path("/proc/stat").read_text().split("btime ")[1].split()[0])
    assert boot * 1000 < facts["started_at"]
    assert Collector().facts(os.getpid())["started_at"] <= facts["started_at"]


def test_the_attestors_take_what_is_collected(start):
    found = look(start().pid)
    assert found is not None and set(found) == {"unix-process", "container", "systemd-unit"}
    for name, facts in found.items():
        answer = attest(name, facts)
        assert not isinstance(answer, Denied)
        if name == "unix-process":
            assert ("unix:uid", str(os.geteuid())) in {(one.type, one.value) for one in answer.selectors}


@root_only
def test_another_users_process_and_its_groups(start):
    facts = Collector().facts(start("/bin/sh", "-c", "echo up; exec cat", user=4242, group=4343, extra_groups=[5, 4343], cwd="/").pid)
    assert (facts["uid"], facts["gid"], facts["real_uid"], facts["groups"]) == (4242, 4343, 4242, ["5", "4343"])


@root_only
@pytest.mark.parametrize("ids", ["(0, 4242, 0)", "(4242, 0, 4242)", "(4242, 4242, 0)"])
def test_a_process_that_can_become_another_user_is_refused(start, ids):
    child = start("/usr/bin/env", sys.executable, "-c", f"import os; os.setresuid{ids}; {WAIT}")
    answer = attest("unix-process", Collector().facts(child.pid))
    assert isinstance(answer, Denied) and answer.code == "two-users"


@root_only
def test_a_process_in_a_namespace_of_its_own_is_contained(start):
    child = start(
        "/usr/bin/unshare",
        "--pid",
        "--fork",
        "--mount",
        sys.executable,
        "-c",
        "import os; print(os.getpid(), flush=True); import sys; sys.stdin.read()",
    )
    inner = int(Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()[0])
    facts = Collector().facts(inner)
    assert facts["contained"] is True and "exe_path" not in facts, "its mounts are its own, so a path says nothing"
    assert facts["exe_sha256"] == sha256(Path(sys.executable).resolve()), "the file itself is what it is"
    answer = attest("unix-process", facts)
    assert not isinstance(answer, Denied) and all(one.type.startswith("container:") for one in answer.selectors)


@pytest.mark.parametrize(
    ("mine", "its", "contained"),
    [("/x", "/docker/", True), ("/docker/", "/docker/", False), ("/x", "/y", False), ("/docker/", "/y", False)],
)
def test_a_group_named_like_a_containers_counts_where_the_collector_is_in_none(start, tmp_path, monkeypatch, mine, its, contained):
    """A container may share the machine's process numbers (`--pid=host`)."""
    child = start()
    proc = tmp_path / "proc"
    real = port._read
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text(f"0::{mine}{'4f' * 32}\n")
    (proc / "stat").write_text("btime 1\n")
    collector = Collector(proc=proc)
    collector._proc = Path("/proc")
    monkeypatch.setattr(port, "_read", lambda folder, name: f"0::{its}{'5e' * 32}\n".encode() if name == "cgroup" else real(folder, name))
    assert collector.facts(child.pid)["contained"] is contained


@root_only
def test_a_file_bound_over_a_trusted_path_does_not_have_that_path(start, tmp_path):
    mine = own_copy(tmp_path)
    trusted = tmp_path / "trusted"
    trusted.write_bytes(b"#!trusted\n")
    line = f"mount --bind {mine} {trusted} && echo up && exec {trusted}"
    child = start("/usr/bin/unshare", "--mount", "/bin/sh", "-c", line)
    wait_for(lambda: Path(f"/proc/{child.pid}/exe").resolve().name in ("trusted", "prog"))
    facts = Collector().facts(child.pid)
    assert "exe_path" not in facts and facts.get("exe_sha256") == sha256(mine)


def wait_for(happened: Callable[[], bool]) -> None:
    for _ in range(200):
        if happened():
            return
        signal.sigtimedwait([], 0.01)
    raise AssertionError("it did not happen")


def test_a_deleted_program_has_a_hash_and_no_path(tmp_path):
    made = own_copy(tmp_path)
    child = started(made)
    try:
        wait_for(lambda: Path(f"/proc/{child.pid}/exe").resolve() == made)
        wanted = sha256(made)
        made.unlink()
        facts = Collector().facts(child.pid)
        assert "exe_path" not in facts and facts["exe_sha256"] == wanted
        made.write_bytes(b"another")
        again = Collector().facts(child.pid)
        assert "exe_path" not in again and again["exe_sha256"] == wanted
    finally:
        child.kill()
        child.wait()


def test_a_program_named_like_a_deleted_one_has_no_path(tmp_path):
    made = own_copy(tmp_path, "prog (deleted)")
    child = started(made)
    try:
        wait_for(lambda: Path(f"/proc/{child.pid}/exe").readlink() == made)
        assert "exe_path" not in Collector().facts(child.pid)
    finally:
        child.kill()
        child.wait()


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no memfd here")
def test_a_program_that_was_never_a_file_has_no_path_and_no_hash():
    descriptor = os.memfd_create("prog", 0)
    os.write(descriptor, Path("/bin/cat").resolve().read_bytes())
    child = subprocess.Popen([f"/proc/self/fd/{descriptor}"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=(descriptor,))
    try:
        wait_for(lambda: "memfd" in str(Path(f"/proc/{child.pid}/exe").readlink()))
        facts = Collector().facts(child.pid)
        assert facts["exe_unread"] == "filesystem" and not {"exe_path", "exe_sha256"} & set(facts)
    finally:
        child.kill()
        child.wait()
        os.close(descriptor)


@root_only
def test_a_filesystem_that_only_the_process_has_is_not_opened(start, tmp_path):
    line = f"mount -t tmpfs none {tmp_path} && cp /bin/cat {tmp_path}/prog && echo up && exec {tmp_path}/prog"
    child = start("/usr/bin/unshare", "--mount", "/bin/sh", "-c", line)
    wait_for(lambda: Path(f"/proc/{child.pid}/exe").resolve().name == "prog")
    facts = Collector().facts(child.pid)
    assert facts["exe_unread"] == "filesystem" and not {"exe_path", "exe_sha256"} & set(facts)


def test_a_program_over_the_bound_has_no_hash(monkeypatch, start):
    child = start()
    monkeypatch.setattr(port, "MAX_EXE_BYTES", 10)
    facts = Collector().facts(child.pid)
    assert facts["exe_unread"] == "size" and "exe_path" in facts


def test_hashing_for_one_user_is_bounded_and_known_files_are_free(monkeypatch, tmp_path):
    first, second = own_copy(tmp_path, "one"), own_copy(tmp_path, "two")
    second.write_bytes(second.read_bytes() + b"x")
    for made in (first, second):
        os.utime(made, (1, 1))
    monkeypatch.setattr(port, "SETTLED_NS", -(10**18))
    monkeypatch.setattr(port, "MAX_HASHED_PER_MINUTE", first.stat().st_size)
    now = [0.0]
    collector = Collector(steady=lambda: now[0])
    children = [started(first), started(second)]
    try:
        for child, made in zip(children, (first, second), strict=True):
            wait_for(lambda child=child, made=made: Path(f"/proc/{child.pid}/exe").resolve() == made)
        assert collector.facts(children[0].pid)["exe_sha256"] == sha256(first)
        assert collector.facts(children[1].pid)["exe_unread"] == "size"
        assert collector.facts(children[0].pid)["exe_sha256"] == sha256(first), "it is known"
        monkeypatch.setattr(port, "MAX_HASHED_PER_MINUTE", second.stat().st_size)
        now[0] = 61.0
        assert collector.facts(children[1].pid)["exe_sha256"] == sha256(second)
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_a_user_with_many_users_is_bounded_and_crowds_root_not_out(monkeypatch):
    monkeypatch.setattr(port, "MAX_HASHED_PER_MINUTE", 10)
    monkeypatch.setattr(port, "MAX_HASHED_FOR_ALL", 25)
    now = [0.0]
    collector = Collector(steady=lambda: now[0])
    assert [collector._may_spend(uid, 10) for uid in (100_000, 100_000, 100_001, 100_002, 0, 0)] == [True, False, True, False, True, False]
    now[0] = 60.0
    assert collector._may_spend(100_002, 10)


def test_a_hash_is_not_kept_for_a_file_that_changed_a_moment_ago(tmp_path):
    made = own_copy(tmp_path)
    child = started(made)
    try:
        wait_for(lambda: Path(f"/proc/{child.pid}/exe").resolve() == made)
        collector = Collector()
        collector.facts(child.pid)
        assert not collector._hashes
        known = collector.facts(os.getpid())["exe_sha256"]
        assert list(collector._hashes.values()) == [known]
    finally:
        child.kill()
        child.wait()


def test_kept_hashes_are_bounded(monkeypatch):
    monkeypatch.setattr(port, "MAX_KNOWN", 0)
    collector = Collector()
    assert "exe_sha256" in collector.facts(os.getpid()) and not collector._hashes


@pytest.mark.parametrize("pid", [0, -1, True, 2**22 + 1, "1", 1.0, None, "../self"])
def test_what_is_no_process_number_is_refused(pid):
    for ask in (Collector().facts, Collector().look):
        with pytest.raises(InvalidInput):
            ask(pid)


def test_a_process_that_is_gone_or_a_zombie_has_no_facts(start):
    child = start()
    child.kill()
    wait_for(lambda: " Z " in Path(f"/proc/{child.pid}/stat").read_text())
    with pytest.raises(NotFound):
        Collector().facts(child.pid)
    child.wait()
    assert look(child.pid) is None
    with pytest.raises(NotFound):
        Collector().facts(child.pid)


def test_a_thread_is_no_process():
    ready, done = threading.Event(), threading.Event()
    numbers: list[int] = []

    def run() -> None:
        numbers.append(threading.get_native_id())
        ready.set()
        done.wait(10)

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(10)
    try:
        with pytest.raises(Unverified):
            Collector().facts(numbers[0])
        answer = attest("unix-process", (look(numbers[0]) or {})["unix-process"])
        assert isinstance(answer, Denied) and answer.code == "process-unread"
    finally:
        done.set()
        thread.join()


def test_a_kernel_thread_is_no_process():
    stats = [path for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    threads = [int(path.parent.name) for path in stats if int(path.read_text().rpartition(")")[2].split()[6]) & 0x200000]
    if not threads:
        pytest.skip("no thread of the kernel is visible here")
    with pytest.raises(Unverified):
        Collector().facts(threads[0])


@pytest.mark.parametrize("name", ["a) S 1 1 1", "x\nUid:\t0\t0\t0\t0", ") ) ) (", "\t"])
def test_a_process_that_names_itself_cleverly_says_nothing_by_it(start, name):
    code = f"import ctypes,sys; ctypes.CDLL(None).prctl(15, {name.encode()[:15]!r}, 0, 0, 0); print('up', flush=True); sys.stdin.read()"
    child = start(sys.executable, "-c", code)
    facts = Collector().facts(child.pid)
    assert facts["uid"] == os.geteuid() and facts["started_at"] >= Collector().facts(os.getpid())["started_at"]


def test_a_process_that_becomes_another_all_the_time_is_refused_and_keeps_nobody_waiting(monkeypatch, tmp_path):
    made = own_copy(tmp_path)
    looked = Collector()
    real = looked._executable
    child = subprocess.Popen(["/bin/sh", "-c", f"read x; exec {made}"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert child.stdin is not None
    try:
        pipe = child.stdin

        def between(folder: int, held: int, uid: int) -> dict[str, Any]:
            said = real(folder, held, uid)
            if not pipe.closed:
                pipe.write(b"go\n")
                pipe.flush()
                wait_for(lambda: Path(f"/proc/{child.pid}/exe").resolve() == made)
            return said

        monkeypatch.setattr(looked, "_executable", between)
        facts = looked.facts(child.pid)
        assert facts["exe_path"] == str(made) and facts["exe_sha256"] == sha256(made), "it is the second look that counts"
        monkeypatch.setattr(port, "_still", lambda folder, held: False)
        answer = attest("unix-process", (looked.look(child.pid) or {})["unix-process"])
        assert isinstance(answer, Denied) and answer.code == "process-unread"
    finally:
        child.kill()
        child.wait()


@root_only
def test_a_collector_that_is_not_root_tells_what_it_may_and_nothing_else(start):
    child, (reads, writes) = start(), os.pipe()
    looker = os.fork()
    if looker == 0:
        try:
            os.setresgid(4343, 4343, 4343)
            os.setresuid(4242, 4242, 4242)
            os.write(writes, json.dumps(Collector().facts(child.pid)).encode())
        finally:
            os._exit(0)
    os.close(writes)
    os.waitpid(looker, 0)
    with os.fdopen(reads, "rb") as told:
        facts = json.loads(told.read())
    assert facts["uid"] == 0 and facts["exe_unread"] == "denied" and not {"exe_path", "exe_sha256"} & set(facts)


@root_only
def test_a_user_that_borrows_a_trusted_programs_name_is_told_apart(start, tmp_path):
    """prctl(2), PR_SET_MM_EXE_FILE lets a process name another file; what it earns by path and hash narrows its user, and is nothing alone."""
    facts = Collector().facts(start("/bin/sh", "-c", "echo up; exec cat", user=4242, group=4343, extra_groups=[], cwd="/").pid)
    answer = attest("unix-process", facts)
    assert not isinstance(answer, Denied)
    alone = tuple(one for one in answer.selectors if one.type in ("unix:path", "unix:sha256"))
    entry = Registration(principal="spiffe://test.local/service/prod/a", trust_domain="test.local", selectors=alone, created_at=0)
    assert len(alone) == 2 and isinstance(match(answer.selectors, [entry], 1), Denied)


def test_many_that_come_and_go_are_facts_or_nothing(start):
    collector = Collector()
    for _ in range(60):
        child = subprocess.Popen(["/bin/true"])
        found = collector.look(child.pid)
        assert found is None or "unread" in found["unix-process"] or found["unix-process"]["pid"] == child.pid
        child.wait()
        assert collector.look(child.pid) is None


def test_no_descriptor_is_left_open(start):
    child, before = start(), len(list(Path("/proc/self/fd").iterdir()))
    collector = Collector()
    for _ in range(20):
        collector.look(child.pid)
        collector.look(2**22)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


class Line:
    """A unix socket that listens, and what connects to it."""

    def __init__(self, path: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(4)
        self.path = path

    def accept(self) -> socket.socket:
        return self.listener.accept()[0]


CONNECT = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print('up', flush=True); sys.stdin.read()"


@pytest.fixture
def line(tmp_path) -> Iterator[Line]:
    made = Line(tmp_path / "s")
    yield made
    made.listener.close()


@pytest.mark.parametrize("old_kernel", [False, True])
def test_a_peer_is_held_until_it_ends(start, line, monkeypatch, old_kernel):
    if old_kernel:
        monkeypatch.setattr(port, "SO_PEERPIDFD", 9999)
    child = start(sys.executable, "-c", CONNECT, str(line.path))
    with line.accept() as connection:
        found = peer(connection)
        try:
            assert (found.pid, found.uid, found.gid) == (child.pid, os.geteuid(), os.getegid()) and alive(found.pidfd)
            assert not os.get_inheritable(found.pidfd)
            child.kill()
            wait_for(lambda: not alive(found.pidfd))
            child.wait()
            assert not alive(found.pidfd)
        finally:
            os.close(found.pidfd)


def test_a_peer_that_is_gone_before_it_is_asked_is_refused_or_known_to_be_gone(start, line):
    child = start(sys.executable, "-c", CONNECT, str(line.path))
    child.kill()
    child.wait()
    with line.accept() as connection:
        try:
            found = peer(connection)
        except Unverified:
            return
        assert not alive(found.pidfd)
        os.close(found.pidfd)


def test_what_is_no_unix_socket_has_no_peer(line):
    with socket.socket() as plain, pytest.raises(Unverified):
        peer(plain)


@root_only
def test_a_peer_is_the_user_that_connected(start):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        made = Line(Path(folder) / "s")
        made.path.chmod(0o666)
        code = (
            f"socket(S, PF_UNIX, SOCK_STREAM, 0) || die; connect(S, pack_sockaddr_un('{made.path}')) || die; $|=1; print qq(up\\n); <STDIN>"
        )
        child = start("/usr/bin/perl", "-MSocket", "-e", code, user=4242, group=4343, extra_groups=[], cwd="/")
        with made.accept() as connection:
            found = peer(connection)
            os.close(found.pidfd)
        made.listener.close()
    assert (found.pid, found.uid, found.gid) == (child.pid, 4242, 4343)


def test_slurm_is_asked_for_the_cgroups_and_its_absence_is_told():
    asked: list[list[str]] = []
    collector = Collector(slurm=lambda lines: asked.append(list(lines)) or {"node": "n1", "job_id": 7})
    found = collector.look(os.getpid())
    assert found is not None and found["slurm"]["job_id"] == 7 and found["slurm"]["uid"] == os.geteuid()
    assert asked == [found["unix-process"]["cgroups"]] and "job_id" not in found["unix-process"]
    assert "slurm" not in (Collector(slurm=lambda lines: {}).look(os.getpid()) or {})

    def down(_: Any) -> dict[str, Any]:
        raise port.Unavailable("it is down", remedy="start it")

    assert (Collector(slurm=down).look(os.getpid()) or {})["slurm"]["slurm_unread"] == "it is down"
