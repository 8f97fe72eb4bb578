"""A child gets exactly what it is given, and does not outlive its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vouchgate.ports.processes import base_environment, python, start
from vouchgate.vocabulary.processes import Spec

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts children as other users")
TELL = """
import json, os, resource, sys
def status(name):
    return next(line.split()[1] for line in open("/proc/self/status") if line.startswith(name))
umask = os.umask(0)
print(json.dumps({
    "env": dict(os.environ), "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(), "cwd": os.getcwd(),
    "fds": sorted(int(one) for one in os.listdir("/proc/self/fd")), "sid": os.getsid(0) == os.getpid(), "umask": umask,
    "core": resource.getrlimit(resource.RLIMIT_CORE)[0], "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    "no_new_privs": status("NoNewPrivs"), "stdin": os.read(0, 1).decode(),
}), flush=True)
"""


def told(tmp_path: Path, **spec: object) -> dict[str, object]:
    log = tmp_path / "child.log"
    child = start(Spec(name="tell", argv=("/usr/bin/env", sys.executable, "-I", "-c", TELL), **spec), log=log)  # type: ignore[arg-type]
    assert child.wait(10) == 0, log.read_text()
    said: dict[str, object] = json.loads(log.read_text())
    return said


def test_it_gets_exactly_its_environment_folder_and_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "leak")
    monkeypatch.setenv("LD_PRELOAD_NOT", "leak")
    said = told(tmp_path, env={"MINE": "1"}, cwd="/usr", umask=0o027, files=123)
    env = said["env"]
    assert isinstance(env, dict)
    env.pop("LC_CTYPE", None)
    assert env == {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "MINE": "1"}
    assert (said["cwd"], said["umask"], said["files"], said["core"], said["no_new_privs"], said["sid"]) == (
        "/usr",
        0o027,
        123,
        0,
        "1",
        True,
    )
    assert said["stdin"] == ""


def test_it_inherits_no_descriptor_but_those_that_are_passed(tmp_path: Path) -> None:
    leaking = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaking, True)
    wanted = os.open("/dev/null", os.O_RDONLY)
    try:
        fds = told(tmp_path, pass_fds=(wanted,))["fds"]
    finally:
        os.close(leaking)
        os.close(wanted)
    assert isinstance(fds, list)
    assert wanted in fds
    assert leaking not in fds
    assert len(fds) <= 5, "0, 1, 2, the wanted one, and the listing itself"


@root_only
def test_it_has_the_uid_it_is_given_and_no_group_of_ours(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    log = tmp_path / "log"
    child = start(Spec(name="id", argv=("/usr/bin/id",), uid=58_999), log=log)
    assert child.wait(10) == 0
    text = log.read_text()
    assert "uid=58999" in text
    assert "gid=58999" in text
    assert "(root)" not in text


def test_a_program_that_is_not_there_is_an_error_here(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        start(Spec(name="x", argv=("/no/such/program",)), log=tmp_path / "log")


def test_output_is_appended_and_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for _ in range(2):
        start(Spec(name="x", argv=("/bin/echo", "hi")), log=log).wait()
    assert log.read_text() == "hi\nhi\n"
    assert log.stat().st_mode & 0o077 == 0
    (tmp_path / "link").symlink_to(log)
    with pytest.raises(OSError, match="symbolic"):
        start(Spec(name="x", argv=("/bin/echo", "hi")), log=tmp_path / "link")


PARENT = """
import sys, time
from pathlib import Path
from vouchgate.ports.processes import start
from vouchgate.vocabulary.processes import Spec
uid = int(sys.argv[2]) if sys.argv[2] else None
child = start(Spec(name="c", argv=("/bin/sleep", "60"), uid=uid), log=Path(sys.argv[1]) / "child.log")
print(child.pid, flush=True)
time.sleep(60)
"""


def gone(pid: int, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("uid", ["", pytest.param("58999", marks=root_only)])
def test_a_parent_that_is_killed_takes_its_child_along(uid: str, tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), uid], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not gone(pid, 0.1)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone(pid)


def test_a_child_that_will_not_end_is_killed(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('go', flush=True); time.sleep(60)"
    child = start(Spec(name="x", argv=(sys.executable, "-I", "-c", stubborn)), log=tmp_path / "log")
    while "go" not in (tmp_path / "log").read_text():
        time.sleep(0.01)
    assert child.ended() is None
    child.terminate()
    assert child.wait(0.2) == -signal.SIGKILL
    assert child.ended() == -signal.SIGKILL
    child.terminate()


def test_a_stopped_child_ends_when_asked(tmp_path: Path) -> None:
    child = start(Spec(name="x", argv=("/bin/sleep", "60")), log=tmp_path / "log")
    os.kill(child.pid, signal.SIGSTOP)
    child.terminate()
    assert child.wait(5) == -signal.SIGTERM


def test_the_command_line_of_a_module_ignores_the_users_site() -> None:
    assert python("vouchgate.x", "--a") == (sys.executable, "-I", "-m", "vouchgate.x", "--a")
    assert base_environment({"A": "1"})["A"] == "1"
