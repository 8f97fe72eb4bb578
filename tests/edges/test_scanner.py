"""The scanner process and its parent's side: powers are gone, and whatever goes wrong is incomplete."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from vouchgate.ports.scanner import MAX_REPORT_BYTES, scan_file
from vouchgate.scanning.settings import ScanSettings
from vouchgate.scanning.verdict import ScanReport, Verdict
from vouchgate.vocabulary.digests import file_digest
from vouchgate.vocabulary.wire import encode

GOOD = save({"w": np.arange(4, dtype=np.float32)})
SOURCE = Path(__file__).resolve().parents[2] / "src"


def opened(path: Path, content: bytes) -> int:
    path.write_bytes(content)
    return os.open(path, os.O_RDONLY)


def test_a_clean_file_is_hashed_and_scanned_without_network_or_calls(tmp_path: Path) -> None:
    report = scan_file(opened(tmp_path / "a", GOOD), name="a.bin")
    assert (report.verdict.outcome, report.format, report.size) == ("clean", "safetensors", len(GOOD))
    assert report.digest.value == hashlib.sha256(GOOD).hexdigest()
    assert report.verdict.name == "a.bin"
    assert "seccomp" in report.confinement
    if os.geteuid() == 0:
        assert "no-network" in report.confinement


def test_a_pickle_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    assert scan_file(opened(tmp_path / "a", b"cos\nsystem\n(S'true'\ntR.")).format == "pickle"
    assert scan_file(opened(tmp_path / "b", b"")).verdict.reasons[0].rule == "scan:empty"


def test_the_descriptor_counts_and_not_the_path(tmp_path: Path) -> None:
    descriptor = opened(tmp_path / "a", GOOD)
    (tmp_path / "a").unlink()
    (tmp_path / "a").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert scan_file(descriptor).verdict.outcome == "clean"


def test_settings_reach_the_process(tmp_path: Path) -> None:
    report = scan_file(opened(tmp_path / "a", GOOD), settings=ScanSettings(max_header_bytes=10))
    assert report.verdict.reasons[0].rule == "safetensors:header-length"


def test_what_is_no_regular_file_is_incomplete(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    held = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    folder = os.open(tmp_path, os.O_RDONLY)
    for descriptor in (held, folder, os.open("/dev/null", os.O_RDONLY)):
        assert scan_file(descriptor).verdict.outcome == "incomplete"


def pretending(code: str) -> tuple[str, ...]:
    """A scanner that does something else; it gets the same arguments."""
    return (sys.executable, "-I", "-c", textwrap.dedent(code))


CLEAN = encode(ScanReport(verdict=Verdict(outcome="clean", format="onnx", size=5, covered=5), digest=file_digest(b"other"))).decode()
FAULTS: list[tuple[str, str]] = [
    ("it crashes", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"),
    ("it is killed", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
    ("it fails", "raise SystemExit(3)"),
    ("it says nothing", ""),
    ("it says something else", "print('clean')"),
    ("it says clean and then fails", f"print({CLEAN!r}); raise SystemExit(1)"),
    ("it says clean of another size", f"print({CLEAN!r})"),
    ("it says too much", f"import sys; sys.stdout.write(' ' * {MAX_REPORT_BYTES + 1})"),
    ("it writes for ever", "import sys\nwhile True: sys.stdout.write(' ' * 65536)"),
    ("it sleeps", "import time; time.sleep(60)"),
    ("it closes its output and sleeps", "import os, time; os.close(1); time.sleep(60)"),
    ("it has no memory", "raise MemoryError"),
]


@pytest.mark.parametrize(("what", "code"), FAULTS, ids=[what for what, _ in FAULTS])
def test_whatever_the_process_does_wrong_is_incomplete(what: str, code: str, tmp_path: Path) -> None:
    report = scan_file(opened(tmp_path / "a", GOOD), timeout=1.5, command=pretending(code))
    assert report.verdict.outcome == "incomplete"
    assert report.verdict.reasons[0].remedy


def test_a_program_that_is_not_there_is_incomplete(tmp_path: Path) -> None:
    assert scan_file(opened(tmp_path / "a", GOOD), command=("/nonexistent/scanner",)).verdict.outcome == "incomplete"


def test_a_hostile_name_is_only_a_name(tmp_path: Path) -> None:
    for name in ("--settings", "-h", "a\0b", "\x1b[2J", "x" * 5000, "\udcff"):
        assert scan_file(opened(tmp_path / "a", GOOD), name=name).verdict.outcome == "clean"


def test_a_file_cut_while_it_is_read_is_incomplete(tmp_path: Path) -> None:
    """The mapping's pages are gone: the kernel ends the process (SIGBUS), and the parent says incomplete."""
    code = """
        import os, sys, mmap
        descriptor = int(sys.argv[sys.argv.index('--fd') + 1])
        mapped = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        os.truncate(next(word[7:] for word in sys.argv if word.startswith("--name=")), 0)
        mapped[0]
    """
    path = tmp_path / "a"
    report = scan_file(opened(path, GOOD * 100), name=str(path), command=pretending(code))
    assert report.verdict.outcome == "incomplete"
    assert "signal" in report.verdict.reasons[0].why


def confined(code: str) -> subprocess.CompletedProcess[str]:
    """Run code after all powers were dropped."""
    lines = f"""
        import sys; sys.path.insert(0, {str(SOURCE)!r})
        import os, socket, mmap, ctypes, errno, hashlib
        from vouchgate.edges.processes import confine
        libc = ctypes.CDLL(None, use_errno=True)
        confine.limit(0); confine.leave_network(); confine.forbid_calls()
        def denied(act):
            try: act()
            except (OSError, PermissionError) as error: return error.errno == errno.EPERM
            return False
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(lines) + textwrap.dedent(code)], capture_output=True, text=True, timeout=30, check=False
    )


ACTS = {
    "open a file": "open('/etc/passwd')",
    "list a folder": "os.listdir('/')",
    "make a socket": "socket.socket()",
    "make a unix socket": "socket.socket(socket.AF_UNIX)",
    "start a process": "os.fork()",
    "run a program": "os.execv('/bin/true', ['true'])",
    "signal another process": "os.kill(os.getppid(), 0)",
    "look at a path": "os.stat('/etc')",
    "change its user": "os.setuid(1)",
    "get executable memory": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
    "duplicate a descriptor": "os.dup(1)",
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())
def test_a_confined_process_cannot(act: str) -> None:
    done = confined(f"print(denied(lambda: {act}))")
    assert done.stdout.strip() == "True", done.stderr
    assert done.returncode == 0


def test_a_confined_process_can_still_compute_and_write() -> None:
    done = confined("print(hashlib.sha256(bytes(1 << 22)).hexdigest()[:4], len(bytearray(1 << 26)))")
    assert done.stdout.split()[1] == str(1 << 26), done.stderr


def test_a_confined_process_runs_out_of_memory_before_the_machine_does() -> None:
    done = confined("""
        try: bytearray(64 << 30)
        except MemoryError: print("refused")
    """)
    assert done.stdout.strip() == "refused"


@pytest.mark.skipif(os.geteuid() != 0, reason="another uid needs root")
def test_with_a_uid_of_its_own(tmp_path: Path) -> None:
    """The file is readable by root alone; the process has only the descriptor. The interpreter may lie in a closed home: see isolate."""
    path = tmp_path / "a"
    path.write_bytes(GOOD)
    path.chmod(0o600)
    code = f"""
        import os, sys
        from pathlib import Path
        from vouchgate.ports import isolate
        from vouchgate.ports.scanner import scan_file
        descriptor = os.open({str(path)!r}, os.O_RDONLY)
        isolate.make_reachable([Path(sys.prefix), Path(sys.base_prefix), Path({str(SOURCE)!r})])
        report = scan_file(descriptor, uid=58006)
        print(report.verdict.outcome, *report.confinement)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split()[0] == "clean", done.stdout + done.stderr
    assert {"seccomp", "own-uid"} <= set(done.stdout.split())
