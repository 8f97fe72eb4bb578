"""A client that a person runs (an MCP client, a command line elsewhere) is authorised by that person: code and PKCE (RFC 9700, OAuth 2.1).

1. Clients are those of [[sts.clients]]: a fixed list, no registration by strangers, no document fetched from where a stranger says. What is
   listed is consented to by whoever wrote the settings; the person is asked to log in, each time.
2. A redirect address is one of the client's own, exactly; on loopback any port (RFC 8252, section 7.3).
3. `code_challenge` by S256 alone, and `resource` (RFC 8707), are required; the token is for that one endpoint, or for the token service, where an
   agent exchanges it for one of its own.
4. The person is who the login said (people's flow); policy is asked `exchange` of the person, with nobody acting yet.
5. A code lives `CODE_MS`, counts once, for the same client, redirect address and resource, with the verifier. A second use strikes what the
   first one got (RFC 6749, section 4.1.2).
6. The token names the person and the scope, and is bound to the key of a DPoP proof where one comes along.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import msgspec

from vouchgate.audit import ocsf
from vouchgate.flows.attest_remote import address
from vouchgate.flows.changes import Revoked
from vouchgate.flows.context import Context
from vouchgate.flows.exchange_token import Exchanged, Peer, decided, issue, service_id, target
from vouchgate.identity.dpop import Seen, read_proof
from vouchgate.identity.scopes import parse_scopes
from vouchgate.identity.verify import consented
from vouchgate.vocabulary.base64url import b64
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, NotFound
from vouchgate.vocabulary.names import PrincipalId, TrustDomain
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import VerifiedPrincipal
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.settings import StsClientSettings
from vouchgate.vocabulary.vouches import Revocation, UnixMillis

MAX_PENDING = 1_000
"""Logins and codes that wait at once."""
MAX_PENDING_OF_ONE = 64
"""Logins that one address waits for: people behind one NAT. Its next one gives up its oldest."""
PENDING_MS = 600_000
"""Time for a person to log in."""
CODE_MS = 60_000
"""Life of a code: one redirect (RFC 6749, section 4.1.2)."""
PARAMETERS = frozenset(
    {"response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method", "resource"}
)
TOKEN_PARAMETERS = frozenset({"grant_type", "code", "redirect_uri", "client_id", "code_verifier", "resource"})
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}\Z")
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\]|localhost)(:[0-9]{1,5})?(/.*)?\Z")
MAX_STATE = 512


@dataclass(frozen=True)
class Wish:
    """What a client asked for, checked."""

    client: str
    redirect: str
    scopes: tuple[str, ...]
    state: str
    challenge: str
    endpoint: str
    """Its id, or the token service's."""


@dataclass(frozen=True)
class _Code:
    wish: Wish
    person: PrincipalId
    until: int


class Pending:
    """Logins that are waited for, codes that were given out, codes that were used. Belongs to one thread."""

    def __init__(self) -> None:
        self._wishes: OrderedDict[str, tuple[int, Wish]] = OrderedDict()
        self._from: dict[str, list[str]] = {}
        """Address -> its logins, the oldest first."""
        self._codes: OrderedDict[str, _Code] = OrderedDict()
        self._used: OrderedDict[str, str] = OrderedDict()
        """Hash of a used code -> id of the token that it gave."""

    def wait(self, wish: Wish, now: UnixMillis, peer: str = "") -> str:
        """A new login to wait for; where there is no room, the address with the most gives up its oldest. Raises `LimitExceeded`."""
        while self._wishes and next(iter(self._wishes.values()))[0] <= now:
            self._wishes.popitem(last=False)
        if len(self._from) >= MAX_PENDING:
            self._from = {one: own for one in list(self._from) if (own := self._waiting_of(one))}
        if len(self._waiting_of(peer)) >= MAX_PENDING_OF_ONE:
            del self._wishes[self._from[peer][0]]
        elif len(self._wishes) >= MAX_PENDING:
            most = max((self._waiting_of(one) for one in list(self._from)), key=len)
            if len(most) < 2:
                raise LimitExceeded("too many people are logging in", remedy="try again in a few minutes")
            del self._wishes[most[0]]
        name = secrets.token_urlsafe(24)
        self._wishes[name] = (now + PENDING_MS, wish)
        self._from.setdefault(peer, []).append(name)
        return name

    def _waiting_of(self, peer: str) -> list[str]:
        """The logins of an address that are still waited for."""
        own = self._from.get(peer, [])
        own[:] = [name for name in own if name in self._wishes]
        if not own:
            self._from.pop(peer, None)
        return own

    def waits(self, name: str, now: UnixMillis) -> bool:
        """Whether a login of that name is waited for."""
        return self._wishes.get(name, (0, None))[0] > now

    def taken(self, name: str, now: UnixMillis) -> Wish:
        """The wish of a login, once. Raises `NotFound`."""
        until, wish = self._wishes.pop(name, (0, None))
        if wish is None or until <= now:
            raise NotFound("nobody waits for this login any more", remedy="begin again in the application")
        return wish

    def code(self, wish: Wish, person: PrincipalId, now: UnixMillis) -> str:
        """A new code."""
        code = secrets.token_urlsafe(32)
        self._codes[_hash(code)] = _Code(wish, person, now + CODE_MS)
        while len(self._codes) > MAX_PENDING:
            self._codes.popitem(last=False)
        return code

    def use(self, code: str, now: UnixMillis) -> _Code | None:
        """Use a code up."""
        found = self._codes.pop(_hash(code), None)
        return found if found is not None and found.until > now else None

    def gave(self, code: str, jti: str) -> None:
        """Remember what a code gave."""
        self._used[_hash(code)] = jti
        while len(self._used) > MAX_PENDING:
            self._used.popitem(last=False)

    def given(self, code: str) -> str:
        """What a code that was used gave, once."""
        return self._used.pop(_hash(code), "")


def begin(context: Context, pending: Pending, asked: Mapping[str, str], peer: str = "") -> str | Denied:
    """Steps 1 to 3: the id of the login that is waited for. A refusal goes to the person, never to an address that was not checked."""
    client = next((one for one in context.settings.sts.clients if one.id == asked.get("client_id")), None)
    redirect = asked.get("redirect_uri", "")
    if client is None or not allowed_redirect(client, redirect):
        return Denied(code="invalid-request", reason="the client or its address is not known here", remedy="list it under [[sts.clients]]")
    if asked.get("response_type") != "code":
        return Denied(code="unsupported-response-type", reason="only `code` is answered", remedy="send `response_type=code`")
    if asked.get("code_challenge_method") != "S256" or not _CHALLENGE.match(asked.get("code_challenge", "")):
        return Denied(code="invalid-request", reason="PKCE by S256 is missing", remedy="send `code_challenge` and its method (RFC 7636)")
    state = asked.get("state", "")
    if not 8 <= len(state) <= MAX_STATE or not state.isascii() or not state.isprintable():
        return Denied(code="invalid-request", reason="`state` is missing or malformed", remedy="send 8 or more random characters")
    if "resource" not in asked:
        return Denied(code="invalid-target", reason="`resource` is missing", remedy="name the endpoint (RFC 8707)")
    audience = _audience(context, asked["resource"])
    if isinstance(audience, Denied):
        return audience
    try:
        scopes = parse_scopes(asked.get("scope", ""))
    except InvalidInput as error:
        return Denied(code="invalid-scope", reason=error.reason, remedy=error.remedy)
    return pending.wait(Wish(client.id, redirect, scopes, state, asked["code_challenge"], audience), context.clock.now(), peer)


def _audience(context: Context, name: str) -> str | Denied:
    """Step 3: an endpoint, or the token service itself, for a token that is good for nothing but an exchange."""
    service = service_id(context.trust_domain)
    if name in (service, address(context)):
        return service
    found = target(context, {"resource": name})
    return found if isinstance(found, Denied) else str(found.id)


def _refuses(context: Context, caller: VerifiedPrincipal, audience: str) -> bool:
    """Step 4. What is to be exchanged is decided there, for the endpoint and for who acts by then."""
    return audience != service_id(context.trust_domain) and decided(context, caller, audience) is not None


def allowed_redirect(client: StsClientSettings, redirect: str) -> bool:
    """Step 2."""
    if redirect in client.redirects:
        return not _LOOPBACK.match(redirect) or "#" not in redirect
    given = _LOOPBACK.match(redirect)
    return given is not None and any(
        (known := _LOOPBACK.match(one)) is not None and (known[1], known[3] or "/") == (given[1], given[3] or "/")
        for one in client.redirects
    )


def granted(context: Context, pending: Pending, name: str, person: PrincipalId) -> str:
    """Step 4: where the person's browser goes now that the login said who it is; with a code, or with the refusal. Raises `NotFound`."""
    now = context.clock.now()
    wish = pending.taken(name, now)
    registration = context.facts.registration_of(person, now)
    refused = registration is None or context.facts.revocation_of(person) is not None
    if registration is not None and not refused:
        caller = consented(registration, scopes=wish.scopes, not_after=UnixMillis(now + CODE_MS), now=now)
        refused = _refuses(context, caller, wish.endpoint)
    # RFC 9207: `iss` tells the client who answered
    said = {"error": "access_denied"} if refused else {"code": pending.code(wish, person, now)}
    said |= {"state": wish.state, "iss": address(context)}
    return f"{wish.redirect}{'&' if '?' in wish.redirect else '?'}{urlencode(said)}"


async def redeem(context: Context, pending: Pending, asked: Mapping[str, str], peer: Peer, seen: Seen) -> Exchanged | Denied:
    """Steps 5 and 6."""
    now = context.clock.now()
    unknown = sorted(set(asked) - TOKEN_PARAMETERS)
    if unknown or not asked.get("code") or not _VERIFIER.match(asked.get("code_verifier", "")):
        return Denied(
            code="invalid-request", reason="the code, its verifier or something else is wrong", remedy="see RFC 7636, section 4.5"
        )
    # a proof that cannot be taken yet costs no code
    proof = read_proof(peer.proof, method="POST", urls=peer.urls, now=now, began=seen.began) if peer.proof else None
    if isinstance(proof, Denied):
        return Denied(code="invalid-dpop-proof", reason=proof.reason, remedy=proof.remedy)
    code = pending.use(asked["code"], now)
    if code is None:
        await _strike(context, pending.given(asked["code"]))
        return Denied(code="invalid-grant", reason="the code is unknown, used or too old", remedy="begin again")
    wish = code.wish
    challenge = b64(hashlib.sha256(asked["code_verifier"].encode()).digest())
    named = _audience(context, asked["resource"]) if "resource" in asked else None
    if (asked.get("client_id"), asked.get("redirect_uri")) != (wish.client, wish.redirect) or not hmac.compare_digest(
        challenge, wish.challenge
    ):
        return Denied(code="invalid-grant", reason="the code was given to another client or verifier", remedy="begin again")
    if isinstance(named, Denied) or (named is not None and named != wish.endpoint):
        return Denied(code="invalid-target", reason="the code was given for another endpoint", remedy="begin again")
    spent = seen.take(proof, now) if proof is not None else None
    if spent is not None:
        return Denied(code="invalid-dpop-proof", reason=spent.reason, remedy="make a new proof, and begin again")
    bound = {"cnf_jkt": proof.jkt} if proof is not None else {}
    return await _issue(context, pending, code, bound, peer, asked["code"])


async def _issue(context: Context, pending: Pending, code: _Code, bound: dict[str, str], peer: Peer, text: str) -> Exchanged | Denied:
    now = context.clock.now()
    registration = context.facts.registration_of(code.person, now)
    if registration is None or context.facts.revocation_of(code.person) is not None:
        return Denied(code="invalid-grant", reason="the person is not registered any more, or revoked", remedy="log in again")
    seconds = min(context.settings.sts.token_seconds, registration.jwt_ttl_seconds)
    until = min(now + 1000 * seconds, registration.expires_at or now + 1000 * seconds)
    caller = consented(registration, scopes=code.wish.scopes, not_after=UnixMillis(until), now=now)
    if _refuses(context, caller, code.wish.endpoint):
        return Denied(
            code="access-denied", reason="no policy lets anybody act for this person there", remedy="ask whoever writes the policies"
        )
    made = await issue(context, caller, code.wish.endpoint, bound, peer)
    if isinstance(made, Exchanged):
        pending.gave(text, jti_of(made.access_token))
    return made


def jti_of(token: str) -> str:
    """The id of a token that was just signed."""
    body = token.split(".")[1]
    return str(msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["jti"])


async def _strike(context: Context, jti: str) -> None:
    """Step 5's end: whoever uses a code twice is a thief, or was robbed."""
    if not jti:
        return
    now = context.clock.now()
    revocation = Revocation(
        id=secrets.token_hex(8),
        trust_domain=TrustDomain(context.trust_domain),
        target_kind="credential",
        target=jti,
        reason="its authorisation code was used twice",
        requested_by=f"spiffe://{context.trust_domain}/system/control/sts",
        made_at=now,
    )
    entry = Append(entry=ocsf.revocation(revocation, now=now), label=revocation.id)
    await context.sequencer.submit("sts:codes", [Revoked(revocation=revocation)], [entry])


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
