"""What Slurm's controller says of a job: slurmrestd, openapi v0.0.40 and newer, over a unix socket or HTTP.

Rules
1. Which job it is comes from slurmstepd's cgroup (identity/cgroup_paths.py), never from the process.
2. One request has a deadline and a bound on its answer's bytes; a slurmrestd that is gone, slow or answers nonsense is `Unavailable`, and
   nothing is established. A job that it does not know is no error: it has no facts.
3. A token goes over TLS, or to this machine's loopback address. Over a unix socket the kernel says who asks (`rest_auth/local`).
4. A job is asked for once in `KEPT_SECONDS`, and after a failure nobody for `PAUSE_SECONDS`: jobs that attest all the time do not keep the
   controller busy, and a controller that hangs does not keep other processes waiting.
5. Of the answer only the fields below are read; a job's name, comment and script are its user's words.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec

from vouchgate.identity.cgroup_paths import slurm_step
from vouchgate.vocabulary.errors import InvalidSettings, Unavailable
from vouchgate.vocabulary.outcomes import Denied

TIMEOUT_SECONDS = 2.0
"""A controller that has not answered by then is overloaded; the workload attests again."""
KEPT_SECONDS = 1.0
"""How long an answer counts; a job that ended meanwhile is noticed at the next look."""
PAUSE_SECONDS = 5.0
"""How long nothing is asked after a failure."""
MAX_KEPT = 4_096
"""Jobs whose answers are kept."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Bytes of an answer; a job has about 8 KiB, and an array's are all in it."""
UNKNOWN_JOB = 2017
"""ESLURM_INVALID_JOB_ID (slurm_errno.h)."""
_TARGET = re.compile(
    r"(?:unix:(?P<path>/[^\0]{1,107})|(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]{1,253}|\[[0-9a-f:]{2,45}\]):(?P<port>[0-9]{1,5}))\Z"
)
_WORD = re.compile(r"[\x21-\x7e]{0,8192}\Z")
_VERSION = re.compile(r"v0\.0\.[4-9][0-9]\Z")


class _Number(msgspec.Struct):
    set: bool = False
    infinite: bool = False
    number: int = 0


class _Job(msgspec.Struct):
    """Fields that other versions leave out are absent here; the attestor refuses a job without those it needs."""

    job_id: int
    job_state: list[str] | str
    user_id: int
    user_name: str | None = None
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    cluster: str | None = None
    nodes: str | None = None
    restart_cnt: int | _Number = 0
    start_time: int | _Number = 0
    array_job_id: int | _Number = 0
    array_task_id: int | _Number | None = None
    het_job_id: int | _Number = 0
    het_job_offset: int | _Number | None = None


class _Fault(msgspec.Struct):
    error_number: int = 0


class _Answer(msgspec.Struct):
    jobs: list[_Job] = []
    errors: list[_Fault] = []


class Slurm:
    """Asks one slurmrestd."""

    def __init__(
        self,
        target: str,
        node: str,
        *,
        user: str = "",
        token: str = "",
        version: str = "v0.0.40",
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """`target` is `unix:<path>`, `http://127.0.0.1:<port>` or `https://<host>:<port>`; `node` is this machine's NodeName."""
        found = _TARGET.match(target)
        if not found or not _VERSION.match(version) or not _WORD.match(user) or not _WORD.match(token) or not node:
            raise InvalidSettings(
                "slurmrestd's address, version, user, token or node cannot be used", remedy="correct it in vouchgate.toml"
            )
        if token and found["scheme"] == "http" and found["host"] not in ("127.0.0.1", "[::1]"):
            raise InvalidSettings("a Slurm token would leave this machine unprotected", remedy="use https, or a unix socket")
        self._path, self._scheme = found["path"], found["scheme"]
        self._host, self._port = (found["host"] or "localhost").strip("[]"), int(found["port"] or 0)
        self._node, self._version = node, version
        self._steady = steady
        self._kept: dict[int, tuple[float, dict[str, Any]]] = {}
        self._failed: tuple[float, Unavailable] | None = None
        self._headers = {name: value for name, value in (("X-SLURM-USER-NAME", user), ("X-SLURM-USER-TOKEN", token)) if value}

    def facts(self, cgroups: Sequence[str]) -> dict[str, Any]:
        """What the attestor `slurm` takes beside the facts of the process; empty for a process in no Slurm step.

        Raises `Unavailable`.
        """
        step = slurm_step(cgroups)
        if step is None or isinstance(step, Denied):
            return {}
        return {"node": self._node, **self._recent(step.job)}

    def _recent(self, job: int) -> dict[str, Any]:
        """Rule 4."""
        now = self._steady()
        if self._failed and now - self._failed[0] < PAUSE_SECONDS:
            raise self._failed[1]
        kept = self._kept.get(job)
        if kept and now - kept[0] < KEPT_SECONDS:
            return kept[1]
        try:
            said = self._job(job)
        except Unavailable as error:
            self._failed = (self._steady(), error)
            raise
        if len(self._kept) >= MAX_KEPT:
            self._kept = {}
        self._kept[job] = (now, said)
        return said

    def _job(self, job: int) -> dict[str, Any]:
        status, body = self._get(f"/slurm/{self._version}/job/{job}")
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise _unavailable("it answered nonsense") from None
        if any(fault.error_number == UNKNOWN_JOB for fault in answer.errors):
            return {}
        if status != 200 or answer.errors:
            raise _unavailable(f"it answered {status}")
        # A job of an array, or a part of a heterogeneous one, comes with all its siblings.
        found = [one for one in answer.jobs if one.job_id == job]
        return _facts(found[0]) if len(found) == 1 else {}

    def _get(self, path: str) -> tuple[int, bytes]:
        end = time.monotonic() + TIMEOUT_SECONDS
        lines = [f"GET {path} HTTP/1.1", f"Host: {self._host}", "Accept: application/json", "Connection: close"]
        request = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in self._headers.items()), "", ""])
        try:
            with self._connect() as connection:
                connection.sendall(request.encode("ascii"))
                data = _all(connection, end)
            response = http.client.HTTPResponse(cast(socket.socket, _Received(data)), method="GET")
            response.begin()
            return response.status, response.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unavailable(type(error).__name__) from None

    def _connect(self) -> socket.socket:
        if self._path:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(TIMEOUT_SECONDS)
                connection.connect(self._path)
            except OSError:
                connection.close()
                raise
            return connection
        plain = socket.create_connection((self._host, self._port), timeout=TIMEOUT_SECONDS)
        if self._scheme == "http":
            return plain
        try:
            return ssl.create_default_context().wrap_socket(plain, server_hostname=self._host)
        except OSError:
            plain.close()
            raise


class _Received:
    """An answer that was read whole, as `HTTPResponse` wants it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _all(connection: socket.socket, end: float) -> bytes:
    """Everything until the peer closes, within the deadline and the bound."""
    parts = bytearray()
    while True:
        left = end - time.monotonic()
        if left <= 0 or len(parts) > MAX_ANSWER_BYTES:
            raise TimeoutError
        connection.settimeout(left)
        part = connection.recv(65_536)
        if not part:
            return bytes(parts)
        parts += part


def _facts(job: _Job) -> dict[str, Any]:
    states = [job.job_state] if isinstance(job.job_state, str) else job.job_state
    array, het = _number(job.array_job_id), _number(job.het_job_id)
    facts = {
        "job_id": job.job_id, "job_state": states, "job_uid": job.user_id, "job_user": job.user_name, "job_account": job.account,
        "job_partition": job.partition, "job_qos": job.qos, "job_cluster": job.cluster, "job_nodes": job.nodes,
        "job_restarts": _number(job.restart_cnt), "job_array": array or None, "job_array_task": _number(job.array_task_id) if array else None,
        "job_het": het or None, "job_het_offset": _number(job.het_job_offset) if het else None,
    }  # fmt: skip
    started = _number(job.start_time)
    return {
        name: value for name, value in (facts | {"job_started_at": started * 1000 if started else None}).items() if value not in (None, "")
    }


def _number(value: int | _Number | None) -> int | None:
    if isinstance(value, _Number):
        return value.number if value.set and not value.infinite else None
    return value


def _unavailable(why: str) -> Unavailable:
    return Unavailable(f"slurmrestd does not answer: {why}", remedy="look at slurmrestd on this machine; the workload may attest again")
