"""The machine, for the supervisor: who runs as whom, folders, sockets, addresses, and who processes are."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vouchgate.ports import files, isolate, processes
from vouchgate.vocabulary.errors import Conflict, InvalidSettings, Unavailable, Unsupported
from vouchgate.vocabulary.layout import NOBODY, Layout, Users
from vouchgate.vocabulary.processes import Folder
from vouchgate.vocabulary.settings import AgentSettings, Settings, host_port
from vouchgate.wiring.keys import read_secret

MAX_SOCKET_BYTES = 107
"""Of a unix socket's path, without its terminating zero (unix(7))."""

make_folders = files.make_folders

write_atomic = files.write_atomic

read_small = files.read_small

free_bytes = files.free_bytes

python = processes.python

start_process = processes.start


def decide_users(settings: Settings) -> tuple[Users, str]:
    """(who runs as whom, why processes are not isolated, or nothing). Raises `Unsupported` where isolation is required and impossible."""
    own, wish = os.geteuid(), settings.processes.isolate
    why = "" if own == 0 else "this is not root"
    if wish == "off":
        return Users(base=None, own=own), "[processes] isolate is off"
    if why and wish == "require":
        raise Unsupported("[processes] isolate = `require`, but only root may start processes as other users", remedy="run as root")
    return Users(base=None if why else settings.uid_base, own=own), why


def reachable(settings: Settings, package: Path, interpreter_roots: Iterable[Path]) -> list[Path]:
    """Let other uids reach the interpreter, this package and the data directory; returns the folders that had to be covered."""
    wanted = [Path(settings.data_dir), package, *interpreter_roots]
    wanted += [Path(one.folder) for one in settings.endpoints if one.command]
    read = [Path(one.model) for one in settings.endpoints if one.model] + [Path(one.path) for one in settings.policies]
    root = Path(settings.root_dir)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return isolate.make_reachable([path for path in wanted if path.exists()], kept=[root, *(path for path in read if path.exists())])


def check_places(settings: Settings, layout: Layout) -> None:
    """Whether data_dir and root_dir can be what they are. Raises `InvalidSettings` naming the key."""
    sockets = [layout.control_socket, layout.ext_authz_socket, layout.supervisor_socket]
    sockets += [layout.upstream_socket(one.name) for one in settings.endpoints if one.command]
    longest = max(sockets, key=lambda path: len(bytes(path)))
    if len(bytes(longest)) > MAX_SOCKET_BYTES:
        raise InvalidSettings(
            f"`data_dir` is too long: the socket `{longest}` has {len(bytes(longest))} bytes, the system allows {MAX_SOCKET_BYTES}",
            remedy="set `data_dir` to a shorter path",
        )
    for key, path, mode in (("data_dir", Path(settings.data_dir), 0o711), ("root_dir", Path(settings.root_dir), 0o700)):
        there = next(one for one in (path, *path.parents) if one.exists())
        if not there.is_dir():
            raise InvalidSettings(f"`{key}` is `{path}`, but `{there}` is a file", remedy=f"set `{key}` to a folder, or move the file away")
        if not os.access(there, os.W_OK | os.X_OK):
            raise InvalidSettings(f"`{key}` is `{path}`, and you may not write in `{there}`", remedy=f"set `{key}` to a folder of yours")
        try:
            path.mkdir(mode=mode, parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidSettings(
                f"`{key}` is `{path}`, which cannot be made: {error.strerror}", remedy=f"set `{key}` to another"
            ) from None


def artifact_readers(settings: Settings) -> int | None:
    """Who may enter the content store (`Layout.folders`). Raises `InvalidSettings` for a group that this machine does not have."""
    named = settings.artifacts.readers
    return NOBODY if named == "nobody" else None if named == "everybody" else files.group_number(named)


def lock_data_dir(layout: Layout) -> int:
    """Hold the data directory for this process tree. Raises `Conflict` where another one runs on it."""
    descriptor = os.open(layout.supervisor / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Conflict(
            f"vouchgate already runs on `{layout.data_dir}`", remedy="end the other one, or set another data_dir and other ports"
        ) from None
    return descriptor


def take_address(address: str, key: str) -> str:
    """`host:port` with a free port in the place of 0. Raises `Unavailable` naming the settings key where the port is taken."""
    if not address:
        return ""
    host, port = host_port(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Unavailable(
                f"{host}:{port} cannot be listened on: {error.strerror}", remedy=f"set `{key}` to a free address, or end what listens there"
            ) from None
        taken = probe.getsockname()[1]
    return f"[{host}]:{taken}" if ":" in host else f"{host}:{taken}"


def listening_socket(path: Path, *, owner: int) -> int:
    """A unix socket that listens on `path`, in a 0700 folder of `owner`; only `owner` (and root) can reach it."""
    files.make_folders([Folder(path=str(path.parent), mode=0o700, uid=owner, gid=owner)])
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listening.bind(str(path))
    if os.geteuid() == 0:
        os.chown(path, owner, owner)
    path.chmod(0o600)
    listening.listen(1024)
    return listening.detach()


def last_message(log: Path) -> str:
    """The message of a log's last line."""
    lines = log.read_text("utf-8", "replace").strip().splitlines()[-1:] if log.exists() else []
    try:
        return str(json.loads(lines[0])["message"])[:1000]
    except (ValueError, KeyError, TypeError, IndexError):
        return lines[0][:1000] if lines else "nothing was logged"


async def until(check: Any, *, seconds: float, what: str) -> Any:
    """Ask again every 20 ms until `check` answers something true. Raises `Unavailable` after `seconds`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        answer = await check()
        if answer:
            return answer
        if loop.time() > end:
            raise Unavailable(f"{what} within {seconds:.0f} s", remedy="see the logs in the data directory")
        await asyncio.sleep(0.02)


class Looker:
    """Reads who processes are, one after the other in a thread of its own."""

    def __init__(self, agent: AgentSettings) -> None:
        from vouchgate.ports.attest import Collector

        self._collector = Collector(slurm=_slurm(agent))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="look")

    async def look(self, pids: list[int]) -> list[dict[str, dict[str, Any]] | None]:
        """What each process's attestors are to be given, or None where there is none of that number any more."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: [self._collector.look(pid) for pid in pids])


def _slurm(agent: AgentSettings) -> Callable[[Sequence[str]], dict[str, Any]] | None:
    """What Slurm says of a process, where there is one."""
    if not agent.slurm:
        return None
    from vouchgate.ports.slurm import Slurm

    token = read_secret(Path(agent.slurm_token_file)).decode("ascii", "replace").strip() if agent.slurm_token_file else ""
    return Slurm(agent.slurm, agent.slurm_node, user=agent.slurm_user, token=token, version=agent.slurm_version).facts


def kernel() -> Any:
    """What the kernel says of the peer of a unix socket (ports/attest.py)."""
    from vouchgate.ports import attest

    return attest


def prover() -> Any:
    """What answers questions about policies, each in a process of its own; blocks."""
    from vouchgate.ports import prover as prover_port

    return prover_port
