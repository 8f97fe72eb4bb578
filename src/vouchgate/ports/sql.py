"""One statement at somebody else's PostgreSQL, over a connection of its own (the store's PostgreSQL is storage's).

Rules
1. Time to connect and to run is bounded, and so are the rows; values come and go as text.
2. A server elsewhere is asked over TLS with its certificate verified; a unix socket and loopback need none.
3. An error is its SQLSTATE alone: a server's message may quote a statement or a value.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from vouchgate.protection.rotators import SqlAnswer, SqlAsk
from vouchgate.vocabulary.errors import Unavailable, Unsupported
from vouchgate.vocabulary.settings import is_loopback

CONNECT_SECONDS = 3.0
STATEMENT_SECONDS = 10.0
"""A statement of a rotation alters one role."""
MAX_ROWS = 1_000


async def ask(one: SqlAsk) -> SqlAnswer:
    """Run the statement. Raises `Unavailable`; what the server itself refuses is an answer."""
    try:
        import asyncpg
    except ImportError:
        raise Unsupported("asyncpg is not installed", remedy="pip install 'vouchgate[postgres]'") from None
    try:
        connection: Any = await asyncpg.connect(
            host=one.host,
            port=one.port,
            database=one.database,
            user=one.user,
            password=one.password,
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS,
            ssl=_tls(one.host),
            server_settings={"application_name": "vouchgate"},
        )
    except asyncpg.PostgresError as error:
        return SqlAnswer(sqlstate=error.sqlstate or "58000")
    except (OSError, TimeoutError, asyncpg.InterfaceError, ssl.SSLError) as error:
        raise Unavailable(f"the database `{one.host[:80]}` cannot be reached ({type(error).__name__})", remedy="start it") from None
    try:
        rows = await connection.fetch(one.statement, *one.parameters)
    except asyncpg.PostgresError as error:
        return SqlAnswer(sqlstate=error.sqlstate or "58000")
    except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise Unavailable(f"the database broke off ({type(error).__name__})", remedy="it is tried again by itself") from None
    finally:
        await _close(connection)
    return SqlAnswer(rows=tuple(tuple(str(value) for value in row) for row in rows[:MAX_ROWS]))


def _tls(host: str) -> ssl.SSLContext | bool:
    return False if host.startswith("/") or is_loopback(host) else ssl.create_default_context()


async def _close(connection: Any) -> None:
    try:
        await asyncio.wait_for(connection.close(), 1.0)
    except Exception:  # whatever it says, the connection is over
        connection.terminate()
