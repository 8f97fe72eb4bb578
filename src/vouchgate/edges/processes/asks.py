"""Asks of rotators on their way out: from the control plane, over frames, through the process that calls out.

Rules
1. An ask goes to a destination that [[secrets]] names, and to none else: this side holds the list too, since whoever takes the control plane
   over would otherwise have a way to everywhere.
2. What comes back is bounded; nothing of an ask or an answer is logged.
"""

from __future__ import annotations

from typing import Any

from vouchgate import wiring
from vouchgate.edges.processes.rpc_server import Handler, Peer
from vouchgate.protection.rotators import Answer, Ask, HttpAnswer, HttpAsk, SqlAnswer, SqlAsk
from vouchgate.vocabulary.errors import InvalidInput, NotPermitted, Unavailable
from vouchgate.vocabulary.settings import SecretSettings, Settings

ORIGINS = ("url", "iam_url", "s3_url")
"""Keys of a rotator's `config` that hold an address."""
DEFAULT_ORIGINS = {"hugging-face-token": "https://huggingface.co"}
"""Where a rotator asks when its `config` names no address."""


def destinations(settings: Settings) -> list[tuple[str, str, bool]]:
    """(origin, file of its authorities, whether it may be private) of everything that a rotator may ask over HTTPS."""
    found = []
    for one in settings.secrets:
        urls = [one.config[key] for key in ORIGINS if key in one.config]
        if not urls and one.rotator in DEFAULT_ORIGINS:
            urls = [DEFAULT_ORIGINS[one.rotator]]
        found += [(url, one.config.get("ca_file", ""), one.config.get("private", "") == "yes") for url in urls]
    return found


def handlers(settings: Settings) -> dict[str, Handler]:
    """`out.ask`; nothing where no secret is named."""
    if not settings.secrets:
        return {}
    listed = destinations(settings)
    client = wiring.http_client(listed) if listed else None
    databases = {_database(one) for one in settings.secrets if "host" in one.config}

    async def ask(_: Peer, params: dict[str, Any]) -> Any:
        one = read_ask(params)
        if isinstance(one, SqlAsk):
            if (one.host, one.port, one.database) not in databases:
                raise NotPermitted("this database is not a destination that vouchgate may ask", remedy="name it in [[secrets]] `config`")
            return answer_frame(await wiring.ask_sql(one))
        if client is None:
            raise NotPermitted("no owner of a secret is asked over HTTPS", remedy="name its address in [[secrets]] `config`")
        said = await client.send(one.method, one.url, headers=one.headers, body=one.body)
        return answer_frame(HttpAnswer(said.status, said.body))

    return {"out.ask": ask}


def _database(one: SecretSettings) -> tuple[str, int, str]:
    port = one.config.get("port", "5432")
    return one.config["host"], int(port) if port.isascii() and port.isdigit() else 0, one.config.get("database", "")


class Outside:
    """The control plane's side: `flows.rotate_secret.Outside`."""

    def __init__(self, remote: Any) -> None:
        self._remote = remote

    async def ask(self, one: Ask) -> Answer:
        """Raises what the other side raised."""
        return read_answer(await self._remote.call("out.ask", **ask_frame(one)))


def ask_frame(one: Ask) -> dict[str, Any]:
    """An ask as plain values."""
    if isinstance(one, HttpAsk):
        return {"kind": "http", "method": one.method, "url": one.url, "headers": dict(one.headers), "body": one.body}
    return {
        "kind": "sql", "host": one.host, "port": one.port, "database": one.database, "user": one.user, "password": one.password,
        "statement": one.statement, "parameters": list(one.parameters),
    }  # fmt: skip


def read_ask(params: dict[str, Any]) -> Ask:
    """Raises `InvalidInput`."""
    fields = dict(params)
    kind = fields.pop("kind", "")
    try:
        if kind == "http":
            return HttpAsk(**fields)
        if kind == "sql":
            return SqlAsk(**{**fields, "parameters": tuple(fields["parameters"])})
    except (TypeError, KeyError):
        # the library's own text could quote a secret
        raise _no_ask() from None
    raise _no_ask()


def _no_ask() -> InvalidInput:
    return InvalidInput("this is no ask", remedy="both ends must run the same version of vouchgate")


def answer_frame(one: Answer) -> dict[str, Any]:
    """An answer as plain values."""
    if isinstance(one, HttpAnswer):
        return {"status": one.status, "body": one.body}
    return {"rows": [list(row) for row in one.rows], "sqlstate": one.sqlstate}


def read_answer(said: Any) -> Answer:
    """Raises `Unavailable`."""
    if isinstance(said, dict) and set(said) == {"status", "body"}:
        return HttpAnswer(said["status"], said["body"])
    if isinstance(said, dict) and set(said) == {"rows", "sqlstate"}:
        return SqlAnswer(tuple(tuple(row) for row in said["rows"]), said["sqlstate"])
    raise Unavailable("the answer from outside has another shape", remedy="both ends must run the same version of vouchgate")
