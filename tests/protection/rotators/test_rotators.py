"""Each rotator against an owner: a real PostgreSQL, a real OpenBao, and HTTP owners that verify what they are shown."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from owners import Hub, Iam, Llm, bao, openbao, postgres

from vouchgate.ports import sql
from vouchgate.ports.http import Destination, HttpClient
from vouchgate.protection.catalog import rotator, rotators
from vouchgate.protection.rotators import Answer, Ask, Assist, Credential, Fresh, HttpAnswer, HttpAsk, SqlAnswer, SqlAsk
from vouchgate.protection.rotators.postgres import scram_verifier
from vouchgate.protection.sigv4 import signed_headers
from vouchgate.vocabulary.errors import InvalidInput, Unavailable


def fresh(number: int) -> Fresh:
    return Fresh(hashlib.sha256(f"turn {number}".encode()).digest(), time.time_ns() // 1_000_000, number)


class Driver:
    """Carries asks to where they go, and can stop a story after so many."""

    def __init__(self) -> None:
        self.asked: list[Ask] = []
        self.stop_after = -1

    def tell(self, story: Generator[Ask, Answer, Any]) -> Any:
        async def go() -> Any:
            try:
                one = next(story)
                while True:
                    if len(self.asked) == self.stop_after:
                        raise KeyboardInterrupt
                    self.asked.append(one)
                    one = story.send(await self._carry(one))
            except StopIteration as end:
                return end.value

        return asyncio.run(go())

    async def _carry(self, one: Ask) -> Answer:
        if isinstance(one, SqlAsk):
            return await sql.ask(one)
        origin = "/".join(one.url.split("/")[:3])
        said = await HttpClient([Destination(origin)]).send(one.method, one.url, headers=one.headers, body=one.body)
        return HttpAnswer(said.status, said.body)


@pytest.fixture(scope="module")
def database() -> Iterator[dict[str, Any]]:
    with postgres(Path(tempfile.mkdtemp(prefix="vgrot"))) as server:
        yield server


@pytest.fixture(scope="module")
def bao_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with openbao(tmp_path_factory.mktemp("bao")) as url:
        yield url


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, str], Credential]]:
    """(rotator, its config, administrative credential) with its owner running."""
    name = request.param
    if name == "postgres":
        server = request.getfixturevalue("database")
        config = {key: server[key] for key in ("host", "port", "database")}
        server["psql"]("ALTER ROLE app_a NOLOGIN PASSWORD NULL; ALTER ROLE app_b NOLOGIN PASSWORD NULL;")
        yield name, {**config, "admin_user": "rotator", "role_a": "app_a", "role_b": "app_b"}, Credential({"password": "rotator-password"})
    elif name == "openbao-approle":
        yield name, {"url": request.getfixturevalue("bao_url"), "role": "pricing"}, Credential({"token": "root-of-the-test"})
    elif name == "s3-access-key":
        owner: Any = Iam()
        config = {"iam_url": owner.url, "s3_url": owner.url, "bucket": "models", "user": "pricing"}
        yield name, config, Credential({"access_key": "AKADMIN", "secret_key": "admin-secret"})
        owner.close()
    else:
        owner = Llm()
        yield name, {"url": owner.url, "project": "proj_1"}, Credential({"api_key": "admin-key"})
        owner.close()


MADE_BY_US = ["postgres", "openbao-approle", "s3-access-key", "openai-service-account"]


@pytest.mark.parametrize("case", MADE_BY_US, indirect=True)
def test_a_turn_keeps_the_old_one_alive_until_it_is_retired(case: Any):
    name, config, admin = case
    kind, driver = rotator(name), Driver()
    kind.config.check(config, what=name)
    first = driver.tell(kind.make(config, admin, None, fresh(1)))
    driver.tell(kind.prove(config, first, fresh(1)))
    second = driver.tell(kind.make(config, admin, first, fresh(2)))
    for both in (first, second):
        driver.tell(kind.prove(config, both, fresh(2)))
    with pytest.raises(Unavailable):
        driver.tell(kind.prove_retired(config, first, fresh(2)))
    driver.tell(kind.retire(config, admin, first, fresh(2)))
    driver.tell(kind.prove_retired(config, first, fresh(2)))
    driver.tell(kind.prove(config, second, fresh(2)))
    with pytest.raises(Unavailable):
        driver.tell(kind.prove(config, first, fresh(2)))
    driver.tell(kind.retire(config, admin, first, fresh(2)))


@pytest.mark.parametrize("case", MADE_BY_US, indirect=True)
def test_a_make_that_was_killed_leaves_no_credential_behind(case: Any):
    name, config, admin = case
    kind = rotator(name)
    used = Driver().tell(kind.make(config, admin, None, fresh(1)))
    orphans = []
    for stop in range(1, 6):
        driver = Driver()
        driver.stop_after = stop
        try:
            orphans.append(driver.tell(kind.make(config, admin, used, fresh(2))))
        except KeyboardInterrupt:
            continue
    made = Driver().tell(kind.make(config, admin, used, fresh(3)))
    assert orphans
    Driver().tell(kind.prove(config, used, fresh(3)))
    Driver().tell(kind.prove(config, made, fresh(3)))
    for orphan in orphans:
        with pytest.raises(Unavailable):
            Driver().tell(kind.prove(config, orphan, fresh(3)))


@pytest.mark.parametrize("case", MADE_BY_US, indirect=True)
def test_a_wrong_administrator_is_told_apart_from_a_bad_day(case: Any):
    name, config, admin = case
    wrong = Credential(dict.fromkeys(admin.parts, "wrong"))
    with pytest.raises(InvalidInput, match="administrat"):
        Driver().tell(rotator(name).make(config, wrong, None, fresh(1)))


@pytest.mark.parametrize("name", sorted(rotators()))
def test_nothing_of_a_secret_is_in_a_text_form(name: str):
    shown = repr(
        (
            Credential({"password": "hunter2"}),
            HttpAsk("GET", "https://owner.test", {"authorization": "hunter2"}, b"hunter2"),
            SqlAsk("h", 1, "d", "u", "hunter2", "hunter2", ("hunter2",)),
            HttpAnswer(200, b"hunter2"),
            SqlAnswer((("hunter2",),)),
            Fresh(b"hunter2", 1, 1),
            rotator(name),
        )
    )
    assert "hunter2" not in shown


def test_the_database_is_given_a_verifier_and_never_the_password(database: dict[str, Any]):
    driver = Driver()
    config = {
        **{key: database[key] for key in ("host", "port", "database")}, "admin_user": "rotator", "role_a": "app_a", "role_b": "app_b"
    }  # fmt: skip
    made = driver.tell(rotator("postgres").make(config, Credential({"password": "rotator-password"}), None, fresh(7)))
    statements = [one.statement for one in driver.asked if isinstance(one, SqlAsk)]
    assert statements and not any(made["password"] in one for one in statements)


def test_a_verifier_is_that_of_rfc_7677():
    """RFC 7677, section 3: the server's key of that exchange gives that exchange's server signature."""
    made = scram_verifier("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    server_key = base64.b64decode(made.rpartition(":")[2])
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    exchange = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}"
    assert base64.b64encode(hmac.digest(server_key, exchange.encode(), "sha256")) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.mark.parametrize(
    "change", [{"role_a": "app_a; DROP ROLE app_b"}, {"role_a": 'a"b'}, {"role_b": "app_a"}, {"port": "0"}, {"port": "x"}]
)
def test_a_database_config_that_is_refused(change: dict[str, str]):
    config = {"host": "/nowhere", "port": "5432", "database": "d", "admin_user": "u", "role_a": "app_a", "role_b": "app_b", **change}
    with pytest.raises(InvalidInput):
        next(rotator("postgres").make(config, Credential({"password": "x"}), None, fresh(1)))


def test_a_database_that_is_away_is_tried_again(tmp_path: Path):
    ask = SqlAsk(str(tmp_path), 5432, "d", "u", "x", "SELECT 1")
    with pytest.raises(Unavailable):
        asyncio.run(sql.ask(ask))


def test_sessions_of_a_retired_login_end(database: dict[str, Any]):
    config = {
        **{key: database[key] for key in ("host", "port", "database")}, "admin_user": "rotator", "role_a": "app_a", "role_b": "app_b"
    }  # fmt: skip
    admin, kind = Credential({"password": "rotator-password"}), rotator("postgres")
    made = Driver().tell(kind.make(config, admin, None, fresh(9)))

    async def go() -> None:
        import asyncpg

        live = await asyncpg.connect(
            host=config["host"], port=int(config["port"]), database=config["database"], user=made["user"], password=made["password"]
        )
        assert await live.fetchval("SELECT 1") == 1
        await asyncio.to_thread(lambda: Driver().tell(kind.retire(config, admin, made, fresh(9))))
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)):
            await live.fetchval("SELECT 1")

    asyncio.run(go())


def test_the_login_that_proves_an_approle_leaves_no_token(bao_url: str):
    config, admin = {"url": bao_url, "role": "pricing"}, Credential({"token": "root-of-the-test"})
    kind, driver = rotator("openbao-approle"), Driver()
    before = bao(bao_url, "LIST", "auth/token/accessors")[1]["data"]["keys"]
    made = driver.tell(kind.make(config, admin, None, fresh(1)))
    driver.tell(kind.prove(config, made, fresh(1)))
    assert sorted(bao(bao_url, "LIST", "auth/token/accessors")[1]["data"]["keys"]) == sorted(before)


@pytest.mark.parametrize("role", ["", "../sys", "a/b", "a b"])
def test_a_role_that_is_none(role: str):
    with pytest.raises(InvalidInput):
        next(rotator("openbao-approle").make({"url": "http://127.0.0.1:1", "role": role}, Credential({"token": "x"}), None, fresh(1)))


def test_a_signature_is_that_of_the_published_example():
    # AWS, "Signature Version 4 signing process": GET ListUsers of IAM on 2015-08-30
    made = signed_headers(
        "GET",
        "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
        {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        b"",
        access_key="AKIDEXAMPLE",
        secret_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        region="us-east-1",
        service="iam",
        now=1_440_938_160_000,
        hash_header=False,
    )
    assert made["authorization"].endswith("Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7")


@pytest.mark.parametrize(
    "body", [b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", b"<a>" * 9, b"", b"\xff", b"<a><AccessKeyId>x</AccessKeyId></a>" + b" " * 70_000]
)
def test_an_answer_of_the_store_that_is_not_taken(body: bytes):
    story = rotator("s3-access-key").make(
        {"iam_url": "http://127.0.0.1:1", "s3_url": "http://127.0.0.1:1", "bucket": "models", "user": "u"},
        Credential({"access_key": "a", "secret_key": "b"}),
        None,
        fresh(1),
    )
    next(story)
    with pytest.raises(Unavailable):
        story.send(HttpAnswer(200, body))


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_an_owner_that_stumbles_is_tried_again(status: int):
    owner = Llm()
    owner.stumble(status)
    with pytest.raises(Unavailable):
        Driver().tell(
            rotator("openai-service-account").make(
                {"url": owner.url, "project": "proj_1"}, Credential({"api_key": "admin-key"}), None, fresh(1)
            )
        )
    owner.close()


def test_only_accounts_of_our_own_prefix_are_tidied_up():
    owner = Llm()
    owner.accounts = {"svc_a": ("somebody-1", "k"), "svc_b": ("vouchgate-7", "k"), "svc_c": ("vouchgate", "k")}
    Driver().tell(
        rotator("openai-service-account").make(
            {"url": owner.url, "project": "proj_1"}, Credential({"api_key": "admin-key"}), None, fresh(1)
        )
    )
    assert {"svc_a", "svc_c"} <= set(owner.accounts) and "svc_b" not in owner.accounts
    owner.close()


HUB_CONFIG = {"account": "team-bot"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    owner = Hub()
    owner.tokens = {"hf_read": ("team-bot", "read"), "hf_write": ("team-bot", "write"), "hf_other": ("somebody", "read")}
    yield owner
    owner.close()


def test_a_hub_token_is_made_and_deleted_by_a_person_and_proved_by_us(hub: Hub):
    kind, config = rotator("hugging-face-token"), {**HUB_CONFIG, "url": hub.url}
    with pytest.raises(Assist, match="person"):
        Driver().tell(kind.make(config, Credential({}), None, fresh(1)))
    token = Credential({"token": "hf_read"})
    Driver().tell(kind.prove(config, token, fresh(1)))
    for story in (kind.retire(config, Credential({}), token, fresh(1)), kind.prove_retired(config, token, fresh(1))):
        with pytest.raises(Assist):
            Driver().tell(story)
    del hub.tokens["hf_read"]
    Driver().tell(kind.retire(config, Credential({}), token, fresh(1)))
    Driver().tell(kind.prove_retired(config, token, fresh(1)))


@pytest.mark.parametrize(("token", "error"), [("hf_write", InvalidInput), ("hf_other", InvalidInput), ("hf_none", Unavailable)])
def test_a_hub_token_that_is_not_taken(hub: Hub, token: str, error: type[Exception]):
    with pytest.raises(error):
        Driver().tell(rotator("hugging-face-token").prove({**HUB_CONFIG, "url": hub.url}, Credential({"token": token}), fresh(1)))
