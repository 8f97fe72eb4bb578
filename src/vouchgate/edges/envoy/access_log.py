"""From Envoy's log line to an `Event`, and from its counters to the gaps in the log.

Rules
1. A line is read strictly (log_fields.py); one that is cut off or foreign is `InvalidInput`, and is itself worth an entry.
2. The dedupe key is (gateway, inode, offset): the tailer gives both, and stores the offset with the entries it made.
3. What a line says was said by the gateway alone: `denied_decision` counts only where ext_authz answered, since an upstream can send any
   header, and an identity counts as authenticated only where the gateway accepted it.
4. A line of a request that goes on has phase `start`; the first of a request id is its start.
5. Lines are reconciled with `downstream_rq_completed`: fewer lines than completed requests, both since Envoy's start, is a gap.
"""

from __future__ import annotations

import asyncio
import re

from vouchgate.edges.envoy.log_fields import read_asked, read_fields
from vouchgate.vocabulary.errors import InvalidInput, Unavailable
from vouchgate.vocabulary.events import Event
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

MAX_LINE_BYTES = 64 * 1024
"""Of one line; headers are bounded to 32 KiB and few of them are logged."""
ADMIN_SECONDS = 2.0
MAX_STATS_BYTES = 1024 * 1024

_DENIED = ("rbac_access_denied", "jwt_authn_access_denied", "ext_authz_denied", "lua_response", "direct_response")
_COUNTER = re.compile(r"http\.(tls|plain|federated|egress)\.(?:rbac\.(\w+?)_*\.)?(\w+): (\d+)\Z")


def parse_line(line: bytes, *, source: str, inode: int, offset: int, observed_at: UnixMillis) -> Event:
    """One line as an event. Raises `InvalidInput`."""
    row = _read(line)
    try:
        return _event(row, source=source, inode=inode, offset=offset, observed_at=observed_at)
    except (ValueError, OverflowError):
        raise InvalidInput("a log line holds a number that is none", remedy="see the gateway's log file") from None


def _event(row: dict[str, str], *, source: str, inode: int, offset: int, observed_at: UnixMillis) -> Event:
    details, policy, sub, san = row["details"], row["map"], row["sub"], row["san"]
    action, model, tool = read_asked(row["action"], row["model"])
    answered = details == "ext_authz_denied" or bool(row["asked_decision"])
    return Event(
        source=source,
        source_epoch=inode,
        source_seq=offset,
        occurred_at=UnixMillis(int(float(row["start"] or 0) * 1000)),
        observed_at=observed_at,
        principal=san or sub,
        authenticated=bool(san or sub) and "bad-name" not in details,
        credential_id=row["serial"] if san or not sub else row["jti"],
        action=action,
        resource=row["endpoint"],
        decision_id=row["asked_decision"] or (row["denied_decision"] if details == "ext_authz_denied" else ""),
        grant_id=policy.removeprefix("grant:") if policy.startswith("grant:") else "",
        enforced_by="ext_authz" if answered else "gateway",
        phase="end" if row["kind"] == "DownstreamEnd" else "start",
        outcome=_outcome(row),
        request_id=row["id"],
        trace_id=row["trace"],
        bytes_in=int(row["bytes_in"] or 0),
        bytes_out=int(row["bytes_out"] or 0),
        duration_ms=float(row["duration_us"] or 0) / 1000,
        peer=row["peer"],
        detail={"path": row["asked_path"] or row["path"]}
        | {name: row[name] for name in _DETAIL if row[name]}
        | {name: value for name, value in (("model", model), ("tool", tool)) if value},
    )


_DETAIL = (
    *("kind", "method", "host", "protocol", "status", "details", "flags", "zone", "map", "revoked", "upstream"),
    *("serial", "fingerprint", "sub", "jti"),
)


def _outcome(row: dict[str, str]) -> str:
    if row["details"].startswith(_DENIED):
        return "denied"
    if row["kind"] != "DownstreamEnd" or row["upstream"]:
        return "allowed"
    return "failed"


def _read(line: bytes) -> dict[str, str]:
    if len(line) > MAX_LINE_BYTES:
        raise InvalidInput(f"a log line of {len(line)} bytes is over the bound", remedy="see the gateway's log file")
    try:
        return read_fields(line)
    except ValueError:
        raise InvalidInput(
            "a log line is cut off or has other fields than ours", remedy="gateway and tailer must run the same version of vouchgate"
        ) from None


class Counters(Noun, frozen=True, kw_only=True):
    """Envoy's own count of what it did, since its start."""

    requests: int = 0
    """Requests begun."""
    completed: int = 0
    """Requests ended; each has a line."""
    denied_by: dict[str, int] = {}
    """RBAC filter (`lease`, `revoked`, `map`) -> requests it denied."""


def read_counters(text: str) -> Counters:
    """Counters from the admin interface's text (`/stats?filter=^http[.]`)."""
    totals = {"downstream_rq_total": 0, "downstream_rq_completed": 0}
    denied: dict[str, int] = {}
    for line in text.splitlines():
        match = _COUNTER.match(line)
        if not match:
            continue
        _, engine, name, value = match.groups()
        if engine and name == "denied":
            denied[engine] = denied.get(engine, 0) + int(value)
        elif not engine and name in totals:
            totals[name] += int(value)
    return Counters(requests=totals["downstream_rq_total"], completed=totals["downstream_rq_completed"], denied_by=denied)


def lost_lines(counters: Counters, end_lines: int) -> int:
    """How many ended requests have no line, given the end lines of this Envoy's life; read the counters first, then the file."""
    return max(0, counters.completed - end_lines)


async def fetch_counters(admin_socket: str) -> Counters:
    """Ask Envoy's admin pipe. Raises `Unavailable`."""
    try:
        async with asyncio.timeout(ADMIN_SECONDS):
            reader, writer = await asyncio.open_unix_connection(admin_socket)
            writer.write(b"GET /stats?filter=%5Ehttp%5B.%5D HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")
            text = b""
            while (part := await reader.read(65536)) and len(text) < MAX_STATS_BYTES:
                text += part
            writer.close()
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"the gateway's admin pipe does not answer: {error}", remedy="run `vouchgate status`") from None
    return read_counters(text.decode("utf-8", "replace").replace("\r\n", "\n"))
