"""The control plane's side of the token service: one place for what its requests share, and what it says of itself.

1. Proofs of possession, nonces, logins that are waited for and codes are remembered here, in memory: a restart makes every one of them void, and
   proofs from before it are refused (identity/dpop.py).
2. Metadata (RFC 8414; OpenID Connect Discovery 1.0, section 3) names what is answered, and nothing else.
3. The keys are those that sign tokens, as any JWT verifier takes them (RFC 7517).
4. A refusal is an entry, within bounds for each address and for all: whoever is refused does not fill the disk.
5. Keys of a source that publishes them are looked at when a token names one that is not recorded, at most every few seconds (sources.py).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vouchgate.flows.attest_remote import SERVICE as ATTEST
from vouchgate.flows.attest_remote import AttestRequest, Nonces, address, attest_remote
from vouchgate.flows.authorize_client import Pending, begin, granted, redeem
from vouchgate.flows.context import Buckets, Context
from vouchgate.flows.exchange_token import FOREIGN_PREFIX, GRANT_TYPE, SERVICE, Exchanged, Peer, exchange, record_refusal
from vouchgate.identity.bundle import write_jwks
from vouchgate.identity.dpop import Seen
from vouchgate.identity.foreign import named_key
from vouchgate.vocabulary.errors import Unavailable
from vouchgate.vocabulary.names import PrincipalId
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import VerifiedPrincipal
from vouchgate.vocabulary.settings import StsSourceSettings
from vouchgate.vocabulary.wire import encode

CODE_GRANT = "authorization_code"
REFUSALS_PER_MINUTE = 60
"""Refusals of one address that are entries of the log; the rest is counted."""
ALL_REFUSALS_PER_MINUTE = 600
"""Refusals of all addresses: about 1 GB a day at most."""


KeysOf = Callable[[StsSourceSettings, str], Awaitable[None]]


@dataclass
class TokenService:
    """See the module's text. Belongs to the control plane's loop."""

    context: Context
    seen: Seen = field(init=False)
    nonces: Nonces = field(default_factory=Nonces)
    pending: Pending = field(default_factory=Pending)
    refusals: Buckets = field(default_factory=lambda: Buckets(REFUSALS_PER_MINUTE))
    everybodys: Buckets = field(default_factory=lambda: Buckets(ALL_REFUSALS_PER_MINUTE))
    keys: KeysOf | None = None
    """Sees to the keys of a source whose keys are fetched."""
    unrecorded: int = 0
    """Refusals that were over the bounds of the log."""

    def __post_init__(self) -> None:
        self.seen = Seen(self.context.clock.now())

    async def token(
        self,
        asked: Mapping[str, str],
        *,
        chain: tuple[bytes, ...] = (),
        proof: str = "",
        peer: str = "",
        local: VerifiedPrincipal | None = None,
    ) -> Exchanged | Denied:
        """POST /token. Raises `Unavailable` while nothing is issued."""
        shown = Peer(chain=chain, proof=proof, urls=(f"{address(self.context)}/token",), local=local, address=peer)
        code = asked.get("grant_type") == CODE_GRANT
        foreign = asked.get("subject_token_type", "").partition(FOREIGN_PREFIX)[2].partition("/")[0]
        await self._see_to_keys(foreign, asked.get("subject_token", ""))
        made = await (
            redeem(self.context, self.pending, asked, shown, self.seen) if code else exchange(self.context, asked, shown, self.seen)
        )
        if isinstance(made, Denied):
            await self._record(shown, made, "authorization-code" if code else SERVICE)
        return made

    async def _see_to_keys(self, attestor: str, token: str) -> None:
        """Rule 5."""
        for source in self.context.settings.sts.sources:
            if self.keys is not None and source.keys_url and source.attestor == attestor:
                await self.keys(source, named_key(token))

    async def _record(self, peer: Peer, denied: Denied, service: str) -> None:
        """Rule 4."""
        if self.refusals.take(peer.address) and self.everybodys.take(""):
            await record_refusal(self.context, peer, denied, service=service)
        else:
            self.unrecorded += 1

    async def attest(self, request: AttestRequest, *, proof: str, peer: str) -> dict[str, Any] | Denied:
        """POST /attest"""
        urls = (f"{address(self.context)}/attest",)
        await self._see_to_keys(request.attestor, str(request.evidence.get("token", "")))
        made = await attest_remote(self.context, request, proof=proof, urls=urls, nonces=self.nonces, seen=self.seen, peer=peer)
        if isinstance(made, Denied):
            await self._record(Peer(address=peer), made, ATTEST)
        return made

    def nonce(self, *, digits: bool) -> str:
        """GET /nonce"""
        return self.nonces.make(self.context.clock.now(), digits=digits)

    def authorize(self, asked: Mapping[str, str], peer: str = "") -> str | Denied:
        """GET /authorize: the id of the login that is waited for."""
        return begin(self.context, self.pending, asked, peer)

    def granted(self, name: str, person: PrincipalId) -> str:
        """The login said who it is: where the browser goes now. Raises `NotFound`."""
        return granted(self.context, self.pending, name, person)

    def metadata(self) -> bytes:
        """Rule 2."""
        base = address(self.context)
        said: dict[str, Any] = {
            "issuer": base,
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "jwks_uri": f"{base}/jwks",
            "grant_types_supported": [CODE_GRANT, GRANT_TYPE],
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none", "tls_client_auth"],
            "dpop_signing_alg_values_supported": ["ES256"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "subject_types_supported": ["public"],
            "tls_client_certificate_bound_access_tokens": True,
            "authorization_response_iss_parameter_supported": True,
            "client_id_metadata_document_supported": False,
        }
        return encode(said)

    def jwks(self) -> bytes:
        """Rule 3. Raises `Unavailable`."""
        if self.context.facts.bundle is None:
            raise Unavailable("there are no keys yet", remedy="try again shortly")
        keys = json.loads(write_jwks(self.context.facts.bundle, uses=("jwt-svid",)))["keys"]
        return encode({"keys": [key | {"use": "sig", "alg": "ES256"} for key in keys]})
