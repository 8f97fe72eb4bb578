"""The scanner process and its parent's side: powers are gone, and whatever goes wrong is incomplete."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from vouchgate.ports.scanner import COMMAND, DEFAULT_TIMEOUT_SECONDS, FolderFile, Scanner
from vouchgate.scanning.jobs import ENDED, MAX_FILES, MAX_REPORT_BYTES, SNAPSHOT_BYTES
from vouchgate.scanning.settings import DEFAULTS, ScanSettings
from vouchgate.scanning.verdict import ScanReport, Verdict
from vouchgate.vocabulary.digests import file_digest, tree_digest
from vouchgate.vocabulary.wire import encode

GOOD = save({"w": np.arange(4, dtype=np.float32)})
SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture(scope="module")
def warm() -> Iterator[Scanner]:
    with Scanner() as scanner:
        yield scanner


def scan_file(
    fd: int,
    *,
    name: str = "",
    settings: ScanSettings = DEFAULTS,
    command: tuple[str, ...] = COMMAND,
    timeout: float = DEFAULT_TIMEOUT_SECONDS,
) -> ScanReport:
    with Scanner(command=command, timeout=timeout) as scanner:
        return scanner.scan_file(fd, name=name, settings=settings)


def opened(path: Path, content: bytes) -> int:
    path.write_bytes(content)
    return os.open(path, os.O_RDONLY)


def test_a_clean_file_is_hashed_and_scanned_without_network_or_calls(warm: Scanner, tmp_path: Path) -> None:
    report = warm.scan_file(opened(tmp_path / "a", GOOD), name="a.bin")
    assert (report.verdict.outcome, report.format, report.size) == ("clean", "safetensors", len(GOOD))
    assert report.digest.value == hashlib.sha256(GOOD).hexdigest()
    assert report.verdict.name == "a.bin"
    assert "seccomp" in report.confinement
    if os.geteuid() == 0:
        assert "no-network" in report.confinement


def test_a_pickle_and_an_empty_file_are_refused(warm: Scanner, tmp_path: Path) -> None:
    assert warm.scan_file(opened(tmp_path / "a", b"cos\nsystem\n(S'true'\ntR.")).format == "pickle"
    assert warm.scan_file(opened(tmp_path / "b", b"")).verdict.reasons[0].rule == "scan:empty"


def test_the_descriptor_counts_and_not_the_path(warm: Scanner, tmp_path: Path) -> None:
    descriptor = opened(tmp_path / "a", GOOD)
    (tmp_path / "a").unlink()
    (tmp_path / "a").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert warm.scan_file(descriptor).verdict.outcome == "clean"


def test_settings_reach_the_process(warm: Scanner, tmp_path: Path) -> None:
    report = warm.scan_file(opened(tmp_path / "a", GOOD), settings=ScanSettings(max_header_bytes=10))
    assert report.verdict.reasons[0].rule == "safetensors:header-length"


def test_what_is_no_regular_file_is_incomplete(warm: Scanner, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    held = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    folder = os.open(tmp_path, os.O_RDONLY)
    for descriptor in (held, folder, os.open("/dev/null", os.O_RDONLY)):
        assert warm.scan_file(descriptor).verdict.outcome == "incomplete"


def pretending(code: str) -> tuple[str, ...]:
    """A process in the scanner's place that does something else with its first job; `job` is the job's socket."""
    lines = f"""
        import os, signal, socket, struct, sys, time
        control = socket.socket(fileno=int(sys.argv[sys.argv.index("--control") + 1]))
        _, descriptors, _, _ = socket.recv_fds(control, 16, 1)
        job = socket.socket(fileno=descriptors[0])
        def ended(status): job.sendall({ENDED!r} + struct.pack("!i", status))
    """
    return (sys.executable, "-I", "-c", textwrap.dedent(lines) + textwrap.dedent(code))


CLEAN = encode(ScanReport(verdict=Verdict(outcome="clean", format="onnx", size=5, covered=5), digest=file_digest(b"other")))
HERE = Verdict(outcome="clean", format="safetensors", size=len(GOOD), covered=len(GOOD))
TREE = encode(ScanReport(verdict=HERE, digest=tree_digest([(b"a", file_digest(GOOD))])))
RIGHT = encode(ScanReport(verdict=HERE, digest=file_digest(GOOD)))
FAULTS: list[tuple[str, str]] = [
    ("it crashes", "os.kill(os.getpid(), signal.SIGSEGV)"),
    ("it is killed", "os.kill(os.getpid(), signal.SIGKILL)"),
    ("it fails", "raise SystemExit(3)"),
    ("it says nothing", "ended(0)"),
    ("it says something else", "job.sendall(b'clean'); ended(0)"),
    ("it says clean and nobody says how it ended", f"job.sendall({RIGHT!r})"),
    ("it says clean and then fails", f"job.sendall({RIGHT!r}); ended(1)"),
    ("it says clean and is killed", f"job.sendall({RIGHT!r}); ended(-9)"),
    ("it says clean twice", f"job.sendall({RIGHT!r}); ended(0); job.sendall({RIGHT!r}); ended(0)"),
    ("it says how it ended by itself", f"job.sendall({RIGHT!r}); ended(0); ended(-11)"),
    ("it says clean of another size", f"job.sendall({CLEAN!r}); ended(0)"),
    ("it says clean of a folder", f"job.sendall({TREE!r}); ended(0)"),
    ("it says too much", f"job.sendall(b' ' * {MAX_REPORT_BYTES + 13})"),
    ("it writes for ever", "while True: job.sendall(b' ' * 65536)"),
    ("it sleeps", "time.sleep(60)"),
]


def test_a_process_in_the_scanners_place_is_believed_when_all_is_right(tmp_path: Path) -> None:
    """The twin of the faults below: without a fault, it is clean."""
    assert scan_file(opened(tmp_path / "a", GOOD), command=pretending(f"job.sendall({RIGHT!r}); ended(0)")).verdict.outcome == "clean"


@pytest.mark.parametrize(("what", "code"), FAULTS, ids=[what for what, _ in FAULTS])
def test_whatever_the_process_does_wrong_is_incomplete(what: str, code: str, tmp_path: Path) -> None:
    report = scan_file(opened(tmp_path / "a", GOOD), timeout=1.0, command=pretending(code))
    assert report.verdict.outcome == "incomplete"
    assert report.verdict.reasons[0].remedy


def test_a_program_that_is_not_there_is_incomplete(tmp_path: Path) -> None:
    assert scan_file(opened(tmp_path / "a", GOOD), command=("/nonexistent/scanner",)).verdict.outcome == "incomplete"


def test_a_hostile_name_is_only_a_name(warm: Scanner, tmp_path: Path) -> None:
    for name in ("--settings", "-h", "a\0b", "\x1b[2J", "x" * 5000, "\udcff"):
        assert warm.scan_file(opened(tmp_path / "a", GOOD), name=name).verdict.outcome == "clean"


def test_a_large_file_is_mapped_hashed_beside_the_scan_and_clean(warm: Scanner, tmp_path: Path) -> None:
    content = save({"w": np.arange(3 * SNAPSHOT_BYTES, dtype=np.float32)})
    report = warm.scan_file(opened(tmp_path / "a", content))
    assert report.verdict.outcome == "clean"
    assert report.digest == file_digest(content)


def test_a_mapped_file_that_is_written_to_meanwhile_is_incomplete(tmp_path: Path) -> None:
    content = save({"w": np.arange(SNAPSHOT_BYTES, dtype=np.float32)})
    path = tmp_path / "a"
    path.write_bytes(content)
    report = encode(
        ScanReport(
            verdict=Verdict(outcome="clean", format="safetensors", size=len(content), covered=len(content)), digest=file_digest(content)
        )
    )
    (tmp_path / "report").write_bytes(report)
    code = f"""
        with open({str(path)!r}, "r+b") as file: file.seek(5_000); file.write(b"other")
        job.sendall(open({str(tmp_path / "report")!r}, "rb").read()); ended(0)
    """
    found = scan_file(os.open(path, os.O_RDONLY), command=pretending(code))
    assert found.verdict.outcome == "incomplete"
    assert "written to" in found.verdict.reasons[0].why


def test_a_mapping_whose_pages_are_gone_ends_the_child_alone(warm: Scanner, tmp_path: Path) -> None:
    """The kernel ends the child (SIGBUS); the process that made it goes on."""
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.truncate(SNAPSHOT_BYTES * 64)
    descriptor = os.open(path, os.O_RDONLY)
    stop = threading.Event()

    def cut() -> None:
        while not stop.wait(0.001):
            os.truncate(path, 0)
            os.truncate(path, SNAPSHOT_BYTES * 64)

    thread = threading.Thread(target=cut)
    thread.start()
    outcomes = {warm.scan_file(descriptor).verdict.outcome for _ in range(3)}
    stop.set()
    thread.join()
    assert "clean" not in outcomes
    assert warm.scan_file(opened(tmp_path / "b", GOOD)).verdict.outcome == "clean"


def test_a_scanner_that_was_killed_is_started_again(tmp_path: Path) -> None:
    with Scanner() as scanner:
        descriptor = opened(tmp_path / "a", GOOD)
        assert scanner.scan_file(descriptor).verdict.outcome == "clean"
        assert scanner._process is not None
        scanner._process.kill()
        scanner._process.wait()
        assert scanner.scan_file(descriptor).verdict.outcome == "clean"


def test_closing_it_ends_the_process(tmp_path: Path) -> None:
    with Scanner() as scanner:
        scanner.scan_file(opened(tmp_path / "a", GOOD))
        process = scanner._process
    assert process is not None
    assert process.poll() is not None


def test_many_at_once_each_get_their_own_answer(warm: Scanner, tmp_path: Path) -> None:
    contents = [save({f"w{number}": np.arange(number + 1, dtype=np.float32)}) for number in range(24)]
    descriptors = [opened(tmp_path / str(number), content) for number, content in enumerate(contents)]
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(warm.scan_file, descriptors))
    assert [report.digest for report in reports] == [file_digest(content) for content in contents]
    assert {report.verdict.outcome for report in reports} == {"clean"}


def test_a_child_holds_no_socket_but_its_own(tmp_path: Path) -> None:
    """While one job waits for its files, a second child is made: it has the first one's socket no more."""
    with Scanner() as scanner:
        scanner.scan_file(opened(tmp_path / "a", GOOD))
        assert scanner._process is not None
        waiting = [scanner._begin() for _ in range(3)]
        children = Path(f"/proc/{scanner._process.pid}/task/{scanner._process.pid}/children")
        for _ in range(500):
            held = [sockets_of(int(pid)) for pid in children.read_text().split()]
            if len(held) == 3 and all(len(one) == 1 for one in held):
                break
            threading.Event().wait(0.01)
        assert [len(one) for one in held] == [1, 1, 1]
        assert len(set[str]().union(*held)) == 3
        for one in waiting:
            one.close()


def sockets_of(pid: int) -> set[str]:
    return {link for path in Path(f"/proc/{pid}/fd").iterdir() if (link := os.readlink(path)).startswith("socket:")}  # noqa: PTH115


def test_no_descriptor_is_left_behind(warm: Scanner, tmp_path: Path) -> None:
    descriptor = opened(tmp_path / "a", GOOD)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        warm.scan_file(descriptor)
        warm.scan_folder([FolderFile(b"a", lambda: os.open("/nonexistent", os.O_RDONLY))])
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def folder_of(root: Path, files: dict[str, bytes]) -> list[FolderFile]:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return [FolderFile(name.encode(), lambda name=name: os.open(root / name, os.O_RDONLY)) for name in files]


def test_a_folder_of_many_files_is_read_as_one_artifact(warm: Scanner, tmp_path: Path) -> None:
    """More files than descriptors in one message."""
    files = {f"a{number:03}/w": GOOD for number in range(301)}
    report = warm.scan_folder(folder_of(tmp_path, files), name="m")
    assert report.verdict.outcome == "clean"
    assert report.digest == tree_digest((name.encode(), file_digest(content)) for name, content in files.items())
    assert report.digest.text.startswith("sha256-tree:")


def test_one_bad_file_spoils_a_folder(warm: Scanner, tmp_path: Path) -> None:
    report = warm.scan_folder(folder_of(tmp_path, {"a": GOOD, "b/c": b"cos\nsystem\n(S'true'\ntR."}))
    assert report.verdict.outcome == "refused"
    assert report.verdict.reasons[0].member == "b/c"


def test_a_folder_with_a_file_that_cannot_be_opened_or_with_too_many_is_incomplete(warm: Scanner, tmp_path: Path) -> None:
    files = folder_of(tmp_path, {"a": GOOD})
    gone = FolderFile(b"b", lambda: os.open(tmp_path / "none", os.O_RDONLY))
    assert warm.scan_folder([*files, gone]).verdict.outcome == "incomplete"
    assert warm.scan_folder(files * (MAX_FILES + 1)).verdict.outcome == "incomplete"
    assert warm.scan_folder(files * 2).verdict.outcome != "clean"


def test_a_structure_scan_is_never_clean_and_has_no_digest(warm: Scanner, tmp_path: Path) -> None:
    report = warm.scan_file(opened(tmp_path / "a", GOOD), deep=False)
    assert report.verdict.outcome == "incomplete"
    assert report.verdict.reasons[0].rule == "scan:structure-only"
    assert report.digest.value == "0" * 64


def test_what_readers_import_late_is_there_before_a_child_is_confined() -> None:
    """A confined child opens no file: every import inside a function of the room is of the standard library's loaded part, or in `WARM`."""
    late: set[str] = set()
    for path in (SOURCE / "vouchgate" / "scanning").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    late |= {name.name for name in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    late.add(node.module)
    code = "import sys; from vouchgate.edges.processes import scanner; scanner._warm(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert late <= set(done.stdout.split()), "add it to WARM in edges/processes/scanner.py"


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
        from vouchgate.ports.scanner import Scanner
        descriptor = os.open({str(path)!r}, os.O_RDONLY)
        isolate.make_reachable([Path(sys.prefix), Path(sys.base_prefix), Path({str(SOURCE)!r})])
        report = Scanner(uid=58006).scan_file(descriptor)
        print(report.verdict.outcome, *report.confinement)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split()[0] == "clean", done.stdout + done.stderr
    assert {"seccomp", "own-uid"} <= set(done.stdout.split())
