"""The token service's resources, and every kind of client, token and evidence that it must refuse, each with the standard's own code.

1. Doors are the lines of its route table (edges/sts/app.py).
2. What is public (metadata, keys, bundle, a nonce) holds nothing secret; it is named in the row, and held to be the same for everybody.
"""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

import defects
import provider
from access_gateway import ALICE, GRANT, JWT, PROOF_SECONDS, SERVE, WRONG_NAMES, Cast, shown_by
from benchmarks.rows import Row
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from example import CALLBACK, PARTNER, TRUST_DOMAIN, Example
from installation import b64
from tries import Kind, Said, Surface, told

from vouchgate.edges.sts.app import ROUTES

PUBLIC = {"GET /nonce": "a number for one attempt"}
DIGITS = f"vg://{TRUST_DOMAIN}/endpoint/digits"
QUIET_SECONDS = 0.3
CLIENT, GRANTED, SCOPE, TARGET = (
    told("401 invalid_client"),
    told("400 invalid_grant"),
    told("400 invalid_scope"),
    told("400 invalid_target"),
)
REQUEST, PROOF, DENIED = told("400 invalid_request"), told("400 invalid_dpop_proof"), told("403 access_denied")
CLOSED = told("tls closed")
"""The service's own TLS ends a handshake that does not verify without an alert."""


@dataclass(frozen=True)
class Resource:
    """One line of the table."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def resources() -> list[Resource]:
    """Rule 1."""
    return [Resource(method, path) for method, path, _ in ROUTES]


def public(house: Example) -> dict[str, str]:
    """Documents for everybody: their route carries nothing of who asks, as the table's handlers say (edges/sts/metadata.py)."""
    return PUBLIC | {f"GET {path}": "a document for verifiers" for method, path, ask in ROUTES if ask.__module__.endswith(".metadata")}


PRIVATE = ('"d"', '"p"', '"q"', '"dp"', '"dq"', '"qi"', '"k"', "PRIVATE KEY", "secret")
"""Members of a JWK that are never public (RFC 7518, sections 6.2.2, 6.3.2, 6.4.1), and what else may not be there."""


def documents(house: Example, cast: Cast) -> Row:
    """Rule 2."""
    bad, paths = [], [path for method, path, ask in ROUTES if ask.__module__.endswith(".metadata")]
    for path in paths:
        read = []
        for tls in (defects.stranger(), shown_by(cast.alice), shown_by(cast.gone)):
            link = http.client.HTTPSConnection(*house.sts, context=tls, timeout=10)
            link.request("GET", path)
            answer = link.getresponse()
            read.append((answer.status, answer.read().decode()))
            link.close()
        if len(set(read)) != 1 or read[0][0] != 200 or any(word in read[0][1] for word in PRIVATE):
            bad.append(path)
    return Row(
        name="access/token service: public documents that say more to some, or a secret", value=len(bad), unit=f"of {len(paths)}", goal="= 0",
        met=bool(paths) and not bad, n=3 * len(paths), note=", ".join(bad),
    )  # fmt: skip


def send(
    house: Example, one: Resource, *, tls: ssl.SSLContext | None = None, form: Mapping[str, str] | None = None, document: object = None,
    query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, hears: bool = False, address: tuple[str, int] | None = None,
) -> Said:  # fmt: skip
    """One request; an OAuth error (RFC 6749, section 5.2) is told by its code."""
    body, kind = (urlencode(form), "application/x-www-form-urlencoded") if form is not None else (json.dumps(document), "application/json")
    link = http.client.HTTPSConnection(*(address or house.sts), context=tls or defects.stranger(), timeout=10)
    try:
        link.connect()
        if hears and address is None:
            link.sock.settimeout(QUIET_SECONDS)
            try:
                if not link.sock.recv(1):
                    return Said("tls closed")
            except TimeoutError:
                pass
            link.sock.settimeout(10)
        path = one.path + (f"?{urlencode(query)}" if query else "")
        link.request(one.method, path, body if one.method == "POST" else None, {"content-type": kind, **(headers or {})})
        answer = link.getresponse()
        text = answer.read()
    except ssl.SSLError as error:
        return Said(f"tls {error.reason or 'closed'}")
    except (OSError, http.client.HTTPException) as error:
        return Said(f"nothing ({type(error).__name__})")
    finally:
        link.close()
    try:
        code = str(json.loads(text).get("error", ""))
    except (ValueError, AttributeError):
        code = ""
    return Said(f"{answer.status} {code}".strip(), let_in=answer.status < 400)


class Evidence:
    """A workload elsewhere: its key, nonces, proofs and join tokens."""

    def __init__(self, house: Example) -> None:
        self.house, self.key = house, ec.generate_private_key(ec.SECP256R1())
        self.url = f"https://localhost:{house.sts[1]}/attest"
        der = self.key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        import base64

        self.spki = base64.b64encode(der).decode()

    def nonce(self) -> str:
        """GET /nonce"""
        link = http.client.HTTPSConnection(*self.house.sts, context=defects.stranger(), timeout=10)
        link.request("GET", "/nonce")
        return str(json.loads(link.getresponse().read())["nonce"])

    def join(self, name: str, groups: tuple[str, ...] = ()) -> str:
        """A join token for a registration of its own."""
        made = {"kind": "service", "zone": "serve", "name": name, "groups": list(groups)}
        principal = self.house.client.post(dict, "/api/v1/registrations", made)["principal"]
        return str(self.house.client.post(dict, "/api/v1/join-tokens", {"principal": principal})["token"])

    def ask(
        self,
        token: str,
        *,
        nonce: str | None = None,
        key: defects.Signing | None = None,
        address: tuple[str, int] | None = None,
        **changes: str,
    ) -> Said:
        """POST /attest with a join token."""
        nonce = self.nonce() if nonce is None else nonce
        asked = {"attestor": "join-token", "evidence": {"token": token}, "nonce": nonce, "spki": self.spki} | changes
        proof = defects.proof(key or self.key, "POST", self.url, int(time.time()), nonce=nonce)
        return send(self.house, Resource("POST", "/attest"), document=asked, headers={"dpop": proof}, address=address)


def kinds(house: Example, cast: Cast, address: tuple[str, int] | None = None) -> dict[str, Kind[Resource]]:
    """Every kind."""
    made: dict[str, Kind[Resource]] = {}
    _clients(house, cast, made, address)
    _subjects(house, cast, made, address)
    _evidence(house, made, address)
    _people(house, made, address)
    return made


def _at(path: str) -> Callable[[Resource], bool]:
    return lambda one: one.path == path


def _form(house: Example, **changes: str) -> dict[str, str]:
    return {
        "grant_type": GRANT, "subject_token": house.issue("person", "ann", "sts"), "subject_token_type": JWT, "resource": DIGITS,
        "scope": "infer:digits",
    } | changes  # fmt: skip


def _clients(house: Example, cast: Cast, made: dict[str, Kind[Resource]], address: tuple[str, int] | None) -> None:
    """Who acts."""
    folder, issuer, foreign = house.folder, house.authority(cast.alice), defects.Authority.root(f"spiffe://{TRUST_DOMAIN}")
    form = _form(house)

    def by_tls(of: str, name: str, tls: ssl.SSLContext, expects: frozenset[str]) -> None:
        hears = any(word.startswith("tls") for word in expects)
        ask = lambda one: send(house, one, tls=tls, form=form, hears=hears, address=address)  # noqa: E731
        made[f"client: {name}"] = Kind(of, ask, expects, _at("/token"))

    def by_token(of: str, name: str, token: str, expects: frozenset[str] = CLIENT) -> None:
        asked = form | {"actor_token": token, "actor_token_type": JWT}
        proof = lambda: defects.proof(cast.planner_key, "POST", f"https://localhost:{house.sts[1]}/token", int(time.time()))  # noqa: E731
        ask = lambda one: send(house, one, form=asked, headers={"dpop": proof()}, address=address)  # noqa: E731
        made[f"client: {name}"] = Kind(of, ask, expects, _at("/token"))

    by_tls("none", "none", defects.stranger(), CLIENT)
    by_tls("expired", "expired certificate", shown_by(cast.short), CLOSED)
    by_tls("self-signed", "self-signed", defects.self_signed(folder, "sts-self", [ALICE]).tls, CLOSED)
    by_tls("federated impostor", "foreign authority, our name", foreign.leaf(folder, "sts-f", [ALICE]).tls, CLOSED)
    by_tls(
        "federated impostor",
        "a partner's workload",
        house.partner.leaf(folder, "sts-p", [f"spiffe://{PARTNER}/service/friend"]).tls,
        CLOSED,
    )
    by_tls(
        "wrong domain",
        "another domain, our issuer",
        issuer.leaf(folder, "sts-d", ["spiffe://other.example/service/serve/alice"]).tls,
        CLIENT,
    )
    for name, names in WRONG_NAMES.items():
        by_tls("confusable name", f"{name}, our issuer", issuer.leaf(folder, f"sts-{secrets.token_hex(4)}", names).tls, CLIENT)
    by_tls("confusable name", "registered under a like name", shown_by(cast.ungrouped), DENIED)
    by_tls("confusable name", "an authority's certificate, our issuer", issuer.leaf(folder, "sts-ca", [ALICE], ca=True).tls, CLOSED)
    by_tls("revoked", "revoked certificate", shown_by(cast.gone), GRANTED)
    by_tls("revoked", "revoked principal", shown_by(cast.named), GRANTED)
    by_tls("revoked", "unregistered since", shown_by(cast.left), DENIED)
    by_tls("other run's token", "certificate of a run that ended", shown_by(cast.ended), GRANTED)
    actor, key = house.issue("agent", "planner", "sts"), house.jwt_key()
    by_token("expired", "expired actor token", cast.short_actor)
    by_token("self-signed", "actor token without a signature", defects.unsigned(actor))
    by_token("self-signed", "actor token signed by a stranger", defects.resigned(actor))
    by_token("wrong audience", "actor token for an endpoint", house.issue("agent", "planner", "digits"))
    by_token(
        "wrong domain",
        "actor token of another domain, our key",
        defects.resigned(actor, key, sub="spiffe://other.example/agent/serve/planner"),
    )
    by_token("confusable name", "actor token of a like name, our key", defects.resigned(actor, key, sub=f"{SERVE}/a1ice"), DENIED)
    marked = {"vg": {"ask": "1"}, "cnf": {"x5t#S256": b64(secrets.token_bytes(32))}}
    by_token("stolen", "actor token bound to a certificate, without it", defects.resigned(actor, key, **marked))


def _subjects(house: Example, cast: Cast, made: dict[str, Kind[Resource]], address: tuple[str, int] | None) -> None:
    """On whose behalf, for what, with which proof."""
    key, subject = house.jwt_key(), house.issue("person", "ann", "sts")

    def put(of: str, name: str, expects: frozenset[str], **changes: str) -> None:
        ask = lambda one: send(house, one, tls=shown_by(cast.planner), form=_form(house) | changes, address=address)  # noqa: E731
        made[f"exchange: {name}"] = Kind(of, ask, expects, _at("/token"))

    put("none", "no subject", REQUEST, subject_token="")
    put("expired", "expired subject token", GRANTED, subject_token=cast.short_subject)
    put("self-signed", "subject token without a signature", GRANTED, subject_token=defects.unsigned(subject))
    put("self-signed", "subject token signed by a stranger", GRANTED, subject_token=defects.resigned(subject))
    put("self-signed", "subject token edited", GRANTED, subject_token=defects.edited(subject, sub=ALICE))
    put("wrong audience", "subject token for an endpoint", GRANTED, subject_token=cast.tokens["digits"])
    put("wrong audience", "for an endpoint that is not there", TARGET, resource=f"vg://{TRUST_DOMAIN}/endpoint/nowhere")
    put("wrong domain", "for another domain's endpoint", TARGET, resource="vg://other.example/endpoint/digits")
    put(
        "wrong domain",
        "subject of another domain, our key",
        GRANTED,
        subject_token=defects.resigned(subject, key, sub="spiffe://other.example/person/serve/ann"),
    )
    put("federated impostor", "a token type that nobody attests", GRANTED, subject_token_type="https://vouchgate.dev/token-type/oidc")
    put("revoked", "subject token of a revoked principal", GRANTED, subject_token=cast.named_subject)
    put("revoked", "revoked subject token", GRANTED, subject_token=cast.one_subject)
    put("other run's token", "subject token of a run that ended", GRANTED, subject_token=cast.ended_subject)
    put("exchanged beyond scope", "a scope of another endpoint", SCOPE, scope="infer:chat")
    put("exchanged beyond scope", "a scope that is no use", SCOPE, scope="administer")
    put("exchanged beyond scope", "no scope", SCOPE, scope="")
    narrow = defects.resigned(
        subject, key, vg={"ask": "1"}, cnf={"x5t#S256": defects.thumbprint(cast.planner.certificate)}, scope="describe:digits"
    )
    put("exchanged beyond scope", "wider than the subject's own scope, our key", SCOPE, subject_token=narrow)
    put(
        "stolen",
        "subject token bound to another's certificate, our key",
        GRANTED,
        subject_token=defects.resigned(subject, key, vg={"ask": "1"}, cnf={"x5t#S256": b64(secrets.token_bytes(32))}),
    )
    put("stolen", "a code that nobody was given", GRANTED, **_code())
    made["exchange: a code that nobody was given"] = Kind(
        "stolen", lambda one: send(house, one, form=_code(), address=address), GRANTED, _at("/token")
    )  # fmt: skip
    actor = house.issue("agent", "planner", "sts")
    url = f"https://localhost:{house.sts[1]}/token"
    once = {"proof": ""}

    def keyed(proof: str, where: tuple[str, int] | None = address) -> Said:
        form = _form(house, actor_token=actor, actor_token_type=JWT)
        return send(house, Resource("POST", "/token"), form=form, headers={"dpop": proof}, address=where)

    def replayed(_: Resource) -> Said:
        once["proof"] = defects.proof(cast.planner_key, "POST", url, int(time.time()))
        first = keyed(once["proof"])
        assert first.let_in, f"the first use of a proof was {first.told}"
        return keyed(once["proof"])

    def with_proof(**changes: object) -> Callable[[Resource], Said]:
        return lambda one: keyed(defects.proof(cast.planner_key, "POST", url, int(time.time()), **changes))

    made["exchange: proof of possession, replayed"] = Kind("replayed", replayed, PROOF, _at("/token"))
    made["exchange: proof for another address"] = Kind("replayed", with_proof(htu=f"{url}x"), PROOF, _at("/token"))
    made["exchange: proof for another method"] = Kind("replayed", with_proof(htm="GET"), PROOF, _at("/token"))
    made["exchange: proof from a while ago"] = Kind("replayed", with_proof(iat=int(time.time()) - 120), PROOF, _at("/token"))


def _code() -> dict[str, str]:
    return {
        "grant_type": "authorization_code", "code": "x" * 43, "client_id": "client", "redirect_uri": CALLBACK, "code_verifier": "v" * 43,
        "resource": DIGITS,
    }  # fmt: skip


def _evidence(house: Example, made: dict[str, Kind[Resource]], address: tuple[str, int] | None) -> None:
    elsewhere = Evidence(house)
    used = elsewhere.join("joined-once")
    first = elsewhere.ask(used)
    end = time.monotonic() + PROOF_SECONDS
    while not first.let_in and time.monotonic() < end:
        time.sleep(0.3)
        first = elsewhere.ask(used)
    assert first.let_in, f"a workload elsewhere was refused: {first.told}"
    house.revoke(f"{SERVE}/joined-gone") if (gone := elsewhere.join("joined-gone")) else None
    spent = elsewhere.nonce()
    elsewhere.ask("x" * 40, nonce=spent)
    waits = elsewhere.join("joined-later")
    thief = ec.generate_private_key(ec.SECP256R1())

    def put(of: str, name: str, expects: frozenset[str], ask: Callable[[], Said]) -> None:
        made[f"evidence: {name}"] = Kind(of, lambda one: ask(), expects, _at("/attest"))

    nonce = told("400 invalid_nonce")
    put("none", "no nonce", nonce, lambda: elsewhere.ask(waits, nonce="", address=address))
    put("self-signed", "a made-up nonce", nonce, lambda: elsewhere.ask(waits, nonce="A" * 40, address=address))
    put("replayed", "a nonce that was used", nonce, lambda: elsewhere.ask(waits, nonce=spent, address=address))
    put("stolen", "a proof by another key", PROOF, lambda: elsewhere.ask(waits, key=thief, address=address))
    put("replayed", "a join token that was used", GRANTED, lambda: elsewhere.ask(used, address=address))
    put("self-signed", "a made-up join token", told("400 join_token_unknown"), lambda: elsewhere.ask("x" * 43, address=address))
    put("revoked", "a join token of a revoked principal", DENIED, lambda: elsewhere.ask(gone, address=address))
    put(
        "federated impostor",
        "a source that is not in the settings",
        told("400 no_source"),
        lambda: elsewhere.ask(waits, attestor="oidc", address=address),
    )
    put(
        "wrong audience",
        "a token for an endpoint that is not there",
        TARGET | REQUEST,
        lambda: elsewhere.ask(waits, form="jwt", audience="vg://x/endpoint/y", address=address),
    )


def _people(house: Example, made: dict[str, Kind[Resource]], address: tuple[str, int] | None) -> None:
    def put(of: str, name: str, path: str, expects: frozenset[str], query: dict[str, str], **headers: str) -> None:
        ask = lambda one: send(house, one, query=query, headers=headers, address=address)  # noqa: E731
        made[f"login: {name}"] = Kind(of, ask, expects, _at(path))

    wish = authorization()
    put("none", "a client that is not listed", "/authorize", REQUEST, wish | {"client_id": "nobody"})
    put("confusable name", "a client in capitals", "/authorize", REQUEST, wish | {"client_id": "Client"})
    put("stolen", "a listed client, another address", "/authorize", REQUEST, wish | {"redirect_uri": "https://evil.example/callback"})
    put("wrong audience", "an endpoint that is not there", "/authorize", TARGET, wish | {"resource": "vg://x/endpoint/y"})
    put("exchanged beyond scope", "a scope that is no use", "/authorize", SCOPE, wish | {"scope": "administer"})
    put("none", "a login that nobody waits for", "/login", REQUEST, {"return": "A" * 43})
    put("none", "a callback without the browser's cookie", "/login/callback", REQUEST, {"state": "x", "code": "x"})
    cookie = {"cookie": f"__Host-vouchgate-login={'A' * 43}.{'A' * 43}"}
    put("self-signed", "a callback with a made-up cookie", "/login/callback", DENIED, {"state": "x", "code": "x"}, **cookie)
    used, mine, other = begun(house), begun(house), begun(house)
    callback = Resource("GET", "/login/callback")
    assert send(house, callback, query=used.back("good"), headers={"cookie": used.cookie}).let_in
    put("replayed", "a callback that was used", "/login/callback", DENIED, used.back("good"), cookie=used.cookie)
    put("stolen", "a callback in another browser", "/login/callback", DENIED, mine.back("good"), cookie=other.cookie)
    for name, (of, _) in provider.LIES.items():
        lied = begun(house)
        put(of, name, "/login/callback", DENIED, lied.back(name), cookie=lied.cookie)


@dataclass(frozen=True)
class Login:
    """A browser that was sent to the provider."""

    state: str
    nonce: str
    cookie: str

    def back(self, said: str) -> dict[str, str]:
        """What the provider sends it back with."""
        return {"state": self.state, "code": provider.code(said, self.nonce)}


def begun(house: Example) -> Login:
    """GET /authorize, and where it leads."""
    link = http.client.HTTPSConnection(*house.sts, context=defects.stranger(), timeout=10)
    link.request("GET", f"/authorize?{urlencode(authorization())}")
    first = link.getresponse()
    first.read()
    link.request("GET", first.headers["location"])
    second = link.getresponse()
    second.read()
    asked = dict(parse_qsl(urlsplit(second.headers["location"]).query))
    return Login(asked["state"], asked["nonce"], second.headers["set-cookie"].partition(";")[0])


def authorization() -> dict[str, str]:
    """GET /authorize as it should be."""
    return {
        "response_type": "code", "client_id": "client", "redirect_uri": CALLBACK, "scope": "infer:digits", "state": "s" * 16,
        "code_challenge": "c" * 43, "code_challenge_method": "S256", "resource": DIGITS,
    }  # fmt: skip


def controls(house: Example, cast: Cast, surface: Surface[Resource]) -> dict[str, Said]:
    """Who may is answered."""
    elsewhere, login, person = Evidence(house), {"return": ""}, begun(house)
    link = http.client.HTTPSConnection(*house.sts, context=defects.stranger(), timeout=10)
    link.request("GET", f"/authorize?{urlencode(authorization())}")
    login["return"] = (link.getresponse().headers.get("location") or "").partition("return=")[2]
    good: dict[str, Callable[[Resource], Said]] = {
        "POST /token": lambda one: send(house, one, tls=shown_by(cast.planner), form=_form(house)),
        "POST /attest": lambda one: elsewhere.ask(elsewhere.join(f"joined-{secrets.token_hex(4)}")),
        "GET /authorize": lambda one: send(house, one, query=authorization()),
        "GET /login": lambda one: send(house, one, query=login),
        "GET /login/callback": lambda one: send(house, one, query=person.back("good"), headers={"cookie": person.cookie}),
    }
    return {str(one): good.get(str(one), lambda one: send(house, one))(one) for one in surface.doors}
