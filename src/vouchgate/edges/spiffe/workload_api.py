"""The SPIFFE Workload API: X.509 and JWT profiles (SPIFFE Workload API, sections 5 and 6).

1. Every call carries the security header, and every stream message is the whole state, the first one at once (section 4.1).
2. A caller without an identity gets PermissionDenied from every method, and a stream ends with it as soon as the identity does (5.3, 6.3).
3. An X.509-SVID's key is made here, for one stream, and goes to the caller alone; it stays in memory for as long as the stream, because a
   changed bundle sends the whole state again.
4. A rotation looks at the process again; nothing goes to a process that is no longer the one that connected.
5. A JWT-SVID for one of our own points is for it alone: a token for several can be replayed by each of them at the others (JWT-SVID,
   section 3.2; RFC 8725, section 3.9). A token for several audiences elsewhere is given; our points take none such.
What the answers say is the control plane's decision (flows/workload.py).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from vouchgate.edges.spiffe import messages
from vouchgate.edges.spiffe.asking import Known, Questions, status_of
from vouchgate.edges.spiffe.live import Live, Streams, renew_at
from vouchgate.edges.spiffe.serving import Caller, WorkloadServer, caller_of, receive, require_header, send
from vouchgate.vocabulary.errors import VouchgateError


@dataclass(slots=True)
class Held:
    """A stream's credential."""

    principal: str
    hint: str
    federates: tuple[str, ...]
    mark: str
    chain: tuple[bytes, ...]
    key: bytes
    """PKCS#8, DER."""
    renew_at: float
    ends_at: float
    """Monotonic seconds."""
    retry_at: float | None = None
    """When what failed is tried again."""

    @property
    def next_at(self) -> float:
        """When something is to be done without being told."""
        return self.renew_at if self.retry_at is None else self.retry_at


class Desk:
    """What both services of the socket ask with."""

    def __init__(self, questions: Questions, known: Known, streams: Streams) -> None:
        self.questions, self.known, self.streams = questions, known, streams
        self.server: WorkloadServer | None = None
        known.on_change = lambda: streams.wake_all("state", spread=False)

    async def ask(self, caller: Caller, form: str, **more: Any) -> dict[str, Any]:
        """One question for a caller that is still there when the answer comes (rule 4). Raises `GRPCError`."""
        question = {"connection": caller.name, "pid": caller.pid, "uid": caller.uid, "form": form, **more}
        said = await self.questions.ask(question)
        if self.server is None or not self.server.still_there(caller):
            raise GRPCError(Status.ABORTED, "the caller has ended")
        return said

    async def x509(self, caller: Caller, held: Held | None, *, rotate: bool) -> Held:
        """A certificate: the one that is held where nothing changed, else a new one. Raises `GRPCError`."""
        made: list[ec.EllipticCurvePrivateKey] = []

        def spki() -> bytes:
            made.append(ec.generate_private_key(ec.SECP256R1()))
            return made[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

        mark = held.mark if held and not rotate else ""
        said = await self.ask(caller, "x509", spki=spki, mark=mark, fresh=held is not None)
        if said["same"]:
            assert held is not None
            return held
        lives = said["lives_ms"]
        return Held(
            principal=said["principal"],
            hint=said["hint"],
            federates=tuple(said["federates"]),
            mark=said["mark"],
            chain=tuple(said["chain"]),
            key=made[0].private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
            renew_at=renew_at(lives),
            ends_at=time.monotonic() + lives / 1000,
        )

    async def again(self, live: Live, held: Held, reasons: set[str]) -> Held:
        """After a wake-up; what cannot be renewed now is kept while it lives. Raises `GRPCError`."""
        if not reasons & {"check", "rotate"}:
            return held
        try:
            fresh = await self.x509(live.caller, held, rotate="rotate" in reasons)
        except GRPCError as error:
            if error.status is not Status.UNAVAILABLE or time.monotonic() >= held.ends_at:
                raise
            held.retry_at = live.later(reasons)
            return held
        live.retries, fresh.retry_at = 0, None
        return fresh


class WorkloadApi:
    """See the module's text."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __mapping__(self) -> dict[str, Handler]:
        one, many = Cardinality.UNARY_UNARY, Cardinality.UNARY_STREAM
        kinds: dict[str, tuple[Any, Any, Any]] = {
            "FetchX509SVID": (many, messages.X509SVIDRequest, messages.X509SVIDResponse),
            "FetchX509Bundles": (many, messages.X509BundlesRequest, messages.X509BundlesResponse),
            "FetchJWTSVID": (one, messages.JWTSVIDRequest, messages.JWTSVIDResponse),
            "FetchJWTBundles": (many, messages.JWTBundlesRequest, messages.JWTBundlesResponse),
            "ValidateJWTSVID": (one, messages.ValidateJWTSVIDRequest, messages.ValidateJWTSVIDResponse),
        }
        calls = {
            "FetchX509SVID": self._x509_svid,
            "FetchX509Bundles": self._x509_bundles,
            "FetchJWTSVID": self._jwt_svid,
            "FetchJWTBundles": self._jwt_bundles,
            "ValidateJWTSVID": self._validate,
        }
        return {f"/{messages.SERVICE}/{name}": Handler(calls[name], *kinds[name]) for name in kinds}

    async def _begin(self, stream: Any, kind: Any) -> tuple[Caller, Any]:
        caller = caller_of(stream)
        try:
            require_header(stream)
            request = await receive(stream, kind)
            if request is None:
                raise GRPCError(Status.INVALID_ARGUMENT, "the request has no message")
        except GRPCError as error:
            assert self._desk.server is not None
            self._desk.server.refuse(caller.uid, caller.pid, "malformed", str(error.message))
            raise
        return caller, request

    # -- X.509 profile, section 5

    async def _x509_svid(self, stream: Any) -> None:
        caller, _ = await self._begin(stream, messages.X509SVIDRequest)
        with self._desk.streams.open(caller) as live:
            held = await self._desk.x509(caller, None, rotate=True)
            sent: tuple[Any, ...] = ()
            while True:
                known = await self._desk.known.get()
                if sent != (held.chain, held.federates, self._desk.known.version):
                    sent = (held.chain, held.federates, self._desk.known.version)
                    await send(stream, _x509_response(held, known))
                held = await self._desk.again(live, held, await live.next(held.next_at))

    async def _x509_bundles(self, stream: Any) -> None:
        caller, _ = await self._begin(stream, messages.X509BundlesRequest)
        await self._bundles(stream, caller, _x509_bundles)

    # -- JWT profile, section 6

    async def _jwt_svid(self, stream: Any) -> None:
        caller, request = await self._begin(stream, messages.JWTSVIDRequest)
        if not request.audience:
            raise GRPCError(Status.INVALID_ARGUMENT, "ask for an audience")
        first, *more = dict.fromkeys(request.audience)  # 5
        said = await self._desk.ask(caller, "jwt", audience=first, more=more, subject=request.spiffe_id)
        svid = messages.JWTSVID(spiffe_id=said["principal"], svid=said["token"], hint=said["hint"])
        await send(stream, messages.JWTSVIDResponse(svids=[svid]))

    async def _jwt_bundles(self, stream: Any) -> None:
        caller, _ = await self._begin(stream, messages.JWTBundlesRequest)
        await self._bundles(stream, caller, _jwt_bundles)

    async def _validate(self, stream: Any) -> None:
        caller, request = await self._begin(stream, messages.ValidateJWTSVIDRequest)
        if not request.audience or not request.svid:
            raise GRPCError(Status.INVALID_ARGUMENT, "give an audience and a token")
        await self._desk.ask(caller, "who")
        try:
            said = await self._desk.questions.validate(request.svid, request.audience)
        except VouchgateError as error:
            raise GRPCError(status_of(error.code), error.reason) from None
        if not said["ok"]:
            # section 6.2.3: a token that does not hold is InvalidArgument
            raise GRPCError(Status.INVALID_ARGUMENT, said["reason"])
        response = messages.ValidateJWTSVIDResponse(spiffe_id=said["spiffe_id"])
        messages.fill_struct(response.claims, said["claims"])
        await send(stream, response)

    async def _bundles(self, stream: Any, caller: Caller, made: Any) -> None:
        """Bundles of the caller's own and its federated trust domains, each time they change (5.2.2, 6.2.2)."""
        with self._desk.streams.open(caller) as live:
            said = await self._desk.ask(caller, "who")
            sent: tuple[Any, ...] = ()
            until: float | None = None
            while True:
                federates = tuple(said["federates"])
                if sent != (federates, self._desk.known.version):
                    known = await self._desk.known.get()
                    sent = (federates, self._desk.known.version)
                    await send(stream, made(known, federates))
                reasons, until = await live.next(until), None
                if "check" in reasons or "rotate" in reasons:
                    try:
                        said = await self._desk.ask(caller, "who", fresh=True)
                    except GRPCError as error:
                        if error.status is not Status.UNAVAILABLE:
                            raise
                        until = live.later(reasons)


def _id(trust_domain: str) -> str:
    return f"spiffe://{trust_domain}"


def _x509_response(held: Held, known: dict[str, Any]) -> Any:
    response = messages.X509SVIDResponse(crl=known["crl"])
    response.svids.add(
        spiffe_id=held.principal, x509_svid=b"".join(held.chain), x509_svid_key=held.key, bundle=known["ours"]["x509"], hint=held.hint
    )
    for name in held.federates:
        if name in known["federated"]:
            response.federated_bundles[_id(name)] = known["federated"][name]["x509"]
    return response


def _x509_bundles(known: dict[str, Any], federates: tuple[str, ...]) -> Any:
    response = messages.X509BundlesResponse(crl=known["crl"])
    response.bundles[_id(known["trust_domain"])] = known["ours"]["x509"]
    for name in federates:
        if name in known["federated"]:
            response.bundles[_id(name)] = known["federated"][name]["x509"]
    return response


def _jwt_bundles(known: dict[str, Any], federates: tuple[str, ...]) -> Any:
    response = messages.JWTBundlesResponse()
    response.bundles[_id(known["trust_domain"])] = known["ours"]["jwks"]
    for name in federates:
        if name in known["federated"]:
            response.bundles[_id(name)] = known["federated"][name]["jwks"]
    return response
