"""A model server of another uid loads from the store of a whole installation: what was admitted, without a copy, and nothing else, whatever is swapped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from installation import Installation, mine
from safetensors.numpy import save, save_file

from vouchgate.vocabulary.answers import ImportOutcome
from vouchgate.vocabulary.tree_frames import END, MAGIC, head

LOADER, STRANGER = 60_701, 60_702
GROUP = 60_700
POLICY = """
@id("loaders-may-load")
permit (principal in Group::"loaders", action == Action::"read", resource is Artifact)
when { resource.vouches.containsAll(["scan", "structure", "import"]) && context.risk < 60 };
"""
MORE = f"""
[artifacts]
readers = "{GROUP}"

[[policies]]
path = "{{policy}}"

[[identities]]
name = "loader"
kind = "service"
zone = "serve"
groups = ["loaders"]
uid = {LOADER}
"""
PROGRAM = """
import json, os, sys
import vouchgate.integrations.guard as guard
from vouchgate.integrations import guard_opening
hashed = []
real = guard_opening._hash
guard_opening._hash = lambda descriptor, size: (hashed.append(size), real(descriptor, size))[1]
installed = guard.install(socket=sys.argv[1])
from safetensors.numpy import load_file

def act(verb, what):
    if verb == "path":
        return str(guard.path(what))
    if verb == "load":
        return load_file(what)["w"].tolist()
    if verb == "how":
        with installed.file(what, "test") as opened:
            return [opened.how, opened.digest.text]
    if verb == "folder":
        with installed.folder(what, "test") as view:
            return [view.digest.text, load_file(view.path("deep/model.safetensors"))["w"].tolist()]
    if verb == "tensor":
        from safetensors import safe_open
        path, name = what.split()
        with safe_open(path, framework="np") as file:
            return file.get_tensor(name).tolist()
    if verb == "attack":
        exec(what)
        return "done"

for line in sys.stdin:
    verb, what = json.loads(line)
    hashed.clear()
    try:
        answer = {"said": act(verb, what)}
    except Exception as error:
        answer = {"refused": f"{type(error).__name__}: {error}"}
    print(json.dumps({**answer, "hashed": sum(hashed)}), flush=True)
"""

pytestmark = [pytest.mark.system, pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a loader under another uid")]


class Loader:
    """A process of `uid`; it has a mount namespace of its own, in which only root mounts."""

    def __init__(self, house: Installation, uid: int, *groups: int) -> None:
        rights = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
        prefix = ["unshare", "--mount", "--propagation", "private", "setpriv", f"--reuid={uid}", f"--regid={uid}", rights]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": "/tmp"}
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", PROGRAM, str(house.layout.api_socket)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd="/", text=True,
        )  # fmt: skip

    def ask(self, verb: str, what: object) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout and self.process.stderr
        try:
            self.process.stdin.write(json.dumps([verb, str(what)]) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            told = self.process.stderr.read()
            if "Permission denied" in told and "Error" not in told:
                pytest.skip(f"the interpreter cannot be reached by another uid here: {told[-200:]}")
            raise AssertionError(told)
        found: dict[str, Any] = json.loads(line)
        return found

    def mount(self, *arguments: str) -> None:
        """As root, in the loader's namespace."""
        subprocess.run(["nsenter", "-t", str(self.process.pid), "-m", "mount", *arguments], check=True, timeout=20)

    def close(self) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(20)


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    if not shutil.which("setpriv") or not shutil.which("nsenter"):
        pytest.skip("util-linux (setpriv, nsenter) is not installed here")
    made = Installation()
    try:
        made.folder.chmod(0o755)
        policy = made.folder / "loaders.cedar"
        policy.write_text(POLICY)
        made.settings.write_text(made.settings.read_text() + MORE.replace("{policy}", str(policy)))
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def loader(house: Installation) -> Iterator[Loader]:
    made = Loader(house, LOADER, GROUP)
    yield made
    made.close()


def taken_in(house: Installation, *numbers: float) -> ImportOutcome:
    path = house.folder / "model.safetensors"
    save_file({"w": numpy.array(numbers)}, path)
    outcome = house.take_in(path)
    assert outcome.admitted, outcome
    return outcome


def stored(house: Installation, digest: str) -> Path:
    return house.layout.artifacts / digest.removeprefix("sha256:")


def test_what_was_imported_is_loaded_by_its_digest_without_a_copy_or_a_hash(house: Installation, loader: Loader) -> None:
    outcome = taken_in(house, 1, 2, 3)
    path = loader.ask("path", outcome.digest)["said"]
    assert path == str(stored(house, outcome.digest))
    assert loader.ask("how", path) == {"said": ["store", outcome.digest], "hashed": 0}
    assert loader.ask("load", path) == {"said": [1, 2, 3], "hashed": 0}
    shown = subprocess.run(
        ["setpriv", f"--reuid={LOADER}", f"--regid={GROUP}", "--clear-groups", str(Path(sys.executable).with_name("vouchgate")),
         "path", outcome.digest, "--socket", str(house.layout.api_socket)],
        check=False, capture_output=True, text=True, timeout=30, cwd="/",
    )  # fmt: skip
    assert (shown.returncode, shown.stdout.strip()) == (0, path), shown.stderr
    acts = [mine(entry) for entry in house.entries() if mine(entry).get("act") == "load" or "safetensors" in json.dumps(mine(entry))]
    assert acts


def test_a_folder_is_loaded_by_its_names(house: Installation, loader: Loader) -> None:
    files = {b"config.json": b'{"model_type": "bert"}', b"deep/model.safetensors": save({"w": numpy.array([4.0])})}
    path = house.folder / "tree"
    path.write_bytes(MAGIC + b"".join(head(name, len(data)) + data for name, data in sorted(files.items())) + END)
    with path.open("rb") as file:
        outcome = house.client.send_file(
            ImportOutcome, "/api/v1/artifacts", file, path.stat().st_size, name="tree", zone="serve", kind="tree"
        )
    assert outcome.admitted, outcome
    place = loader.ask("path", outcome.digest)["said"]
    assert loader.ask("folder", place) == {"said": [outcome.digest, [4.0]], "hashed": 0}


def test_what_was_revoked_is_refused_at_the_next_load(house: Installation, loader: Loader) -> None:
    outcome = taken_in(house, 5, 6)
    path = stored(house, outcome.digest)
    assert loader.ask("load", path)["said"] == [5, 6]
    revoked = time.monotonic()
    house.revoke(outcome.digest, "digest")
    while "said" in (answer := loader.ask("load", path)):
        assert time.monotonic() - revoked < 1.5, "it is loaded after its revocation"
        time.sleep(0.02)
    assert "was revoked" in answer["refused"]
    assert "was revoked" in loader.ask("load", path)["refused"]
    other = Loader(house, LOADER, GROUP)
    assert "was revoked" in other.ask("load", path)["refused"]
    other.close()


def test_who_is_not_registered_or_not_in_the_group(house: Installation) -> None:
    outcome = taken_in(house, 7)
    path = stored(house, outcome.digest)
    for uid, groups, why in ((LOADER, (), "cannot be opened: Permission denied"), (STRANGER, (GROUP,), "is not loaded")):
        other = Loader(house, uid, *groups)
        assert why in other.ask("load", path)["refused"]
        other.close()


@pytest.mark.parametrize(
    "attack",
    [
        "open(path, 'r+b')", "os.chmod(path, 0o644)", "os.rename(path, path + 'x')", "os.unlink(path)", "os.utime(path)",
        "os.link(path, os.path.dirname(path) + '/other')", "os.listdir(os.path.dirname(path))", "os.truncate(path, 1)",
        "open(os.path.dirname(path) + '/.notes/1', 'w')", "os.listdir(os.path.dirname(path) + '/.notes')",
        "open(os.path.dirname(path) + '/new', 'w')", "os.open('/proc/self/fd/%d' % os.open(path, os.O_RDONLY), os.O_RDWR)",
        "os.setxattr(path, 'user.x', b'1')", "__import__('mmap').mmap(os.open(path, os.O_RDONLY), 0)",
    ],
)  # fmt: skip
def test_the_loader_itself_can_change_nothing_there(house: Installation, loader: Loader, attack: str) -> None:
    outcome = taken_in(house, 8, 9)
    path = stored(house, outcome.digest)
    answer = loader.ask("attack", f"path = {str(path)!r}; {attack}")
    assert "PermissionError" in answer.get("refused", ""), answer
    assert loader.ask("load", path)["said"] == [8, 9]


def _evil(house: Installation, path: Path) -> Path:
    """Other bytes of the same length that look as the store's own, times and all, put beside the store by root."""
    made = house.folder / "evil"
    save_file({"w": numpy.array([666.0] * 3)}, made)
    facts = path.stat()
    made.chmod(0o444)
    os.chown(made, facts.st_uid, facts.st_gid)
    os.utime(made, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert made.stat().st_size == facts.st_size
    return made


def test_bytes_that_root_swaps_are_never_loaded(house: Installation, loader: Loader) -> None:
    """In place with the times set back, by rename, and in the middle of loads: the kept bytes or a refusal."""
    path = stored(house, taken_in(house, 1, 1, 1).digest)
    assert loader.ask("load", path) == {"said": [1, 1, 1], "hashed": 0}
    evil, good = _evil(house, path), house.folder / "good"
    shutil.copy2(path, good)
    os.chown(good, path.stat().st_uid, path.stat().st_gid)
    done, turns = threading.Event(), [0]

    def turn() -> None:
        while not done.is_set():
            for what in (evil, good):
                shutil.copy2(what, house.layout.artifacts / "next")
                os.chown(house.layout.artifacts / "next", path.stat().st_uid, path.stat().st_gid)
                (house.layout.artifacts / "next").rename(path)
                turns[0] += 1

    turning = threading.Thread(target=turn)
    turning.start()
    try:
        answers = [loader.ask("load", path) for _ in range(60)]
    finally:
        done.set()
        turning.join()
    assert turns[0] > 10
    refusals = [one["refused"] for one in answers if "refused" in one]
    assert [one["said"] for one in answers if "said" in one] == [[1, 1, 1]] * (len(answers) - len(refusals))
    assert all("is not loaded" in one or "changed while it was read" in one or "cannot be opened" in one for one in refusals), refusals
    with path.open("r+b") as file:
        file.write(evil.read_bytes())
    os.utime(path, ns=(evil.stat().st_atime_ns, evil.stat().st_mtime_ns))
    answer = loader.ask("load", path)
    assert "is not loaded" in answer["refused"] and answer["hashed"] == path.stat().st_size
    with path.open("r+b") as file:
        file.write(good.read_bytes())
    assert loader.ask("load", path)["said"] == [1, 1, 1]


@pytest.mark.parametrize("kind", ["overlay", "bind over the file", "bind over the folder", "tmpfs"])
def test_what_is_mounted_over_the_store_is_never_loaded(house: Installation, loader: Loader, kind: str) -> None:
    path = stored(house, taken_in(house, 2, 2, 2).digest)
    assert loader.ask("load", path)["said"] == [2, 2, 2]
    evil, own = _evil(house, path), house.folder / f"own-{kind[:7]}-{len(kind)}"
    for name in ("upper", "work"):
        (own / name).mkdir(parents=True, mode=0o711)
        os.chown(own / name, path.stat().st_uid, path.stat().st_gid)
        (own / name).chmod(0o711)
    shutil.copy2(evil, own / "upper" / path.name)
    os.chown(own / "upper" / path.name, path.stat().st_uid, path.stat().st_gid)
    if kind == "overlay":
        loader.mount("-t", "overlay", "-o", f"lowerdir={path.parent},upperdir={own}/upper,workdir={own}/work", "overlay", str(path.parent))
    elif kind == "bind over the file":
        loader.mount("--bind", str(own / "upper" / path.name), str(path))
    elif kind == "bind over the folder":
        loader.mount("--bind", str(own / "upper"), str(path.parent))
    else:
        loader.mount("-t", "tmpfs", "none", str(path.parent))
    answer = loader.ask("load", path)
    assert "is not loaded" in answer.get("refused", "") or "No such file" in answer.get("refused", ""), answer


def test_a_tensor_is_verified_alone_in_a_file_that_anybody_may_write(house: Installation, loader: Loader) -> None:
    path = house.folder / "parted.safetensors"
    save_file({"a": numpy.arange(4.0), "b": numpy.arange(3.0)}, path)
    assert house.take_in(path).admitted
    written = house.cli("digest", str(path), "--manifest", f"{path}.manifest")
    assert written.returncode == 0, written.stderr
    for one in (path, Path(f"{path}.manifest")):
        os.chown(one, LOADER, LOADER)
    assert loader.ask("tensor", f"{path} b") == {"said": [0, 1, 2], "hashed": 0}
    with path.open("r+b") as file:
        file.seek(-1 - 3 * 8, os.SEEK_END)
        file.write(b"?")
    assert loader.ask("tensor", f"{path} b") == {"said": [0, 1, 2], "hashed": 0}
    assert "tensor `a` is not the one that was taken in" in loader.ask("tensor", f"{path} a")["refused"]
    Path(f"{path}.manifest").unlink()
    assert "is not loaded" in loader.ask("tensor", f"{path} b")["refused"]


def test_a_shard_is_verified_alone_in_a_folder_that_was_taken_in_as_one(house: Installation, loader: Loader) -> None:
    folder = house.folder / "sharded"
    folder.mkdir()
    save_file({"a": numpy.arange(4.0)}, folder / "model-00001-of-00002.safetensors")
    save_file({"b": numpy.arange(3.0)}, folder / "model-00002-of-00002.safetensors")
    index = {
        "metadata": {"total_size": 56},
        "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    done = house.cli("import", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert house.cli("digest", str(folder), "--manifest", f"{folder}.manifest").returncode == 0
    path = folder / "model-00002-of-00002.safetensors"
    for one in (folder, *folder.iterdir(), Path(f"{folder}.manifest")):
        os.chown(one, LOADER, LOADER)
    assert loader.ask("tensor", f"{path} b") == {"said": [0, 1, 2], "hashed": 0}
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"evil")
    assert loader.ask("tensor", f"{path} b") == {"said": [0, 1, 2], "hashed": 0}
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert "is not the one that was taken in" in loader.ask("tensor", f"{path} b")["refused"]


def test_without_the_control_plane_nothing_is_loaded_though_it_lies_there(house: Installation, loader: Loader) -> None:
    """Last: the installation is ended."""
    outcome = taken_in(house, 3)
    path = stored(house, outcome.digest)
    assert loader.ask("load", path)["said"] == [3]
    other = Loader(house, LOADER, GROUP)
    house.stop()
    time.sleep(1.1)
    for one in (loader, other):
        assert "does not answer" in one.ask("load", path)["refused"]
    other.close()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
