"""The signer's X.509 purposes: leaves one by one and in batches, revocation lists, and the steps of the authority.

Rules
1. `x509` issues, `crl` signs lists, `ca` moves the authority: three permissions, three rates.
2. A batch is so many requests: each takes from the rate, is answered or refused by itself, and others get their turn in between.
3. A list's number never falls while the signer runs; the caller's is the epoch, which never falls at all.
4. A step goes on to its end even if the caller is cut off.
Left to others: what each step does (x509_authority.py), permissions, rates and the clock (sign.py).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from vouchgate.flows.sign_requests import CaInstallRequest, CaStepRequest, CrlRequest, X509Request, X509Requests
from vouchgate.flows.x509_authority import Authority, next_update
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded, VouchgateError
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import from_plain

T = TypeVar("T")
MAX_BATCH = 256
"""Certificates of one request: about 60 ms of signing."""
BATCH_TURN = 16
"""Certificates of a batch after which others get their turn."""


class Ticks(Protocol):
    """The clock: `ports.clock.Clock` or a test's."""

    trouble: str

    def now(self) -> UnixMillis:
        """Milliseconds since the epoch."""

    def accept(self) -> None:
        """A person says that the machine's clock is right now."""


class X509Purposes(ABC):
    """Methods of the signer; `Signer` has the rest."""

    _authority: Authority
    _clock: Ticks
    _crl_number = 0

    @abstractmethod
    def _enter(self, rate: str, purpose: str, uid: int, *, issuing: bool = False) -> None:
        """Permission, then rate, then clock."""

    @abstractmethod
    def _access_check(self, purpose: str, uid: int) -> None:
        """Permission alone."""

    @abstractmethod
    async def _whole(self, step: Coroutine[Any, Any, T]) -> T:
        """Rule 4."""

    async def x509_svid(self, uid: int, params: dict[str, Any]) -> dict[str, Any]:
        """Issue an X.509-SVID for a key that the caller holds."""
        self._enter("x509", "x509", uid, issuing=True)
        return await self._x509(params)

    async def x509_svids(self, uid: int, params: dict[str, Any]) -> list[dict[str, Any]]:
        """Issue several; each answer is that of `x509_svid`, or {code, reason, remedy}."""
        self._access_check("x509", uid)
        wanted = from_plain(X509Requests, params, what="request").requests
        if len(wanted) > MAX_BATCH:
            raise LimitExceeded(f"{len(wanted)} certificates at once are over the bound of {MAX_BATCH}", remedy="ask in several batches")
        answers: list[dict[str, Any]] = []
        for number, one in enumerate(wanted):
            try:
                self._enter("x509", "x509", uid, issuing=True)
                answers.append(await self._x509(one))
            except VouchgateError as error:
                answers.append({"code": error.code, "reason": error.reason, "remedy": error.remedy})
            if number % BATCH_TURN == BATCH_TURN - 1:
                await asyncio.sleep(0)
        return answers

    async def _x509(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = from_plain(X509Request, params, what="request")
        issued = await self._authority.issue(
            wanted.spki,
            wanted.principal,
            now=self._clock.now(),
            ttl_seconds=wanted.ttl_seconds,
            dns=wanted.dns,
            binding=wanted.binding,
        )
        return {
            "chain": list(issued.chain),
            "serial": issued.serial,
            "thumbprint": issued.thumbprint,
            "not_before": issued.not_before,
            "not_after": issued.not_after,
        }

    async def crl(self, uid: int, params: dict[str, Any]) -> dict[str, Any]:
        """Sign revocation lists over these serials; `number` never falls."""
        self._enter("crl", "crl", uid)
        wanted = from_plain(CrlRequest, params, what="request")
        if wanted.number < self._crl_number:
            raise Conflict(f"a revocation list of number {self._crl_number} was signed already", remedy="give it a higher number")
        now = self._clock.now()
        made = await self._authority.crls(wanted.serials, wanted.number, now)
        self._crl_number = wanted.number
        return {"crl": made[0], "crls": made, "number": wanted.number, "next_update": next_update(now)}

    async def ca(self, uid: int, params: dict[str, Any]) -> dict[str, Any]:
        """The X.509 authority's roots and who signs now."""
        no_params(params)
        self._access_check("ca", uid)
        by = await self._authority.issuer(self._clock.now())
        issuer = {"number": by.number, "root": by.root, "begins": by.begins, "ends": by.ends}
        return {"roots": self._authority.describe(), "issuer": issuer, "notice": self._authority.notice}

    async def ca_step(self, uid: int, params: dict[str, Any]) -> dict[str, Any]:
        """One step of a root's way, or a new issuer (flows/x509_authority.py)."""
        self._enter("ca", "ca", uid, issuing=True)
        wanted = from_plain(CaStepRequest, params, what="request")
        await self._whole(self._authority.step(wanted.step, self._clock.now(), force=wanted.force))
        return await self.ca(uid, {})

    async def ca_request(self, uid: int, params: dict[str, Any]) -> dict[str, Any]:
        """A request to a CA above ours, for a key of its own; DER of a PKCS #10."""
        no_params(params)
        self._enter("ca", "ca", uid, issuing=True)
        return {"csr": await self._whole(self._authority.request(self._clock.now()))}

    async def ca_install(self, uid: int, params: dict[str, Any]) -> dict[str, Any]:
        """Take in what the CA above ours made of the request."""
        self._enter("ca", "ca", uid, issuing=True)
        wanted = from_plain(CaInstallRequest, params, what="request")
        warnings = await self._whole(self._authority.install(wanted.chain, wanted.root_fingerprint, self._clock.now()))
        return {**await self.ca(uid, {}), "warnings": list(warnings)}


def no_params(params: dict[str, Any]) -> None:
    """Raise `InvalidInput` where a method that takes nothing is given something."""
    if params:
        raise InvalidInput("this method takes no parameters", remedy="send none")
