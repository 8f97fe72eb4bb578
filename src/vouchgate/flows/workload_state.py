"""What every workload is given beside its own credential: bundles by trust domain, and the revocation lists.

1. A foreign trust domain's bundle is that of the partner's recorded source, under its own name; bundles are never merged, none is under our
   name, and keys that [[sts.sources]] names for tokens of others vouch for no peer.
2. Made anew after a change, and before the revocation lists are due again; an answer of the signer that does not come leaves the old one.
Which foreign bundles a workload sees, its registration says (`federates_with`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from vouchgate.flows.context import Context
from vouchgate.flows.federate import PREFIX
from vouchgate.identity.bundle import TrustBundle, write_jwks
from vouchgate.identity.crl import MAX_SERIALS, NEXT_UPDATE_SECONDS, serial_number
from vouchgate.identity.foreign_bundle import read_foreign_bundle
from vouchgate.vocabulary.errors import InvalidInput, Unavailable, VouchgateError

RENEW_SECONDS = NEXT_UPDATE_SECONDS / 3
"""Seconds after which the lists are made again, so that a reader never holds an overdue one."""

log = logging.getLogger("vouchgate.workload")


class State:
    """See the module's text."""

    def __init__(self, context: Context, *, steady: Callable[[], float] = time.monotonic) -> None:
        self._context, self._steady = context, steady
        self._made: dict[str, Any] | None = None
        self._made_at = 0.0
        self._crls: list[bytes] = []
        self._making = asyncio.Lock()
        self.stale = True

    def changed(self) -> None:
        """Something of it may be another now."""
        self.stale = True

    def overdue(self) -> bool:
        """Whether the lists are to be made again."""
        return self._made is not None and self._steady() - self._made_at > RENEW_SECONDS

    async def now(self) -> dict[str, Any]:
        """The state as the agent takes it. Raises `Unavailable` before there is a bundle."""
        async with self._making:
            if self.stale or self._made is None or self.overdue():
                # a change while it is made makes it stale again
                self.stale = False
                self._made = await self._make()
                self._made_at = self._steady()
            return self._made

    async def _make(self) -> dict[str, Any]:
        facts = self._context.facts
        if facts.bundle is None:
            raise Unavailable("there is no trust bundle yet", remedy="wait until the control plane is ready")
        self._crls = await self._lists()
        federated = {}
        for source in facts.sources.values():
            if source.kind == "spiffe" and source.name.startswith(PREFIX) and source.issuer != self._context.trust_domain:
                try:
                    found = read_foreign_bundle(source.keys, source.issuer, ours=self._context.trust_domain)
                    federated[source.issuer] = {"x509": b"".join(found.authorities), "jwks": found.token_keys}
                except InvalidInput:
                    log.error("the bundle of `%s` is not readable and is left out", source.issuer[:200])
        return {
            "trust_domain": self._context.trust_domain,
            "ours": _bundle(facts.bundle),
            "crl": self._crls,
            "federated": federated,
        }

    async def _lists(self) -> list[bytes]:
        """Revoked certificates that have not expired, one list an issuer."""
        facts = self._context.facts
        serials: dict[str, None] = {}
        for one in facts.standing_revocations():
            for target in {one.target, *facts.struck_credentials(one)} if one.target_kind in {"credential", "run"} else ():
                if _is_serial(target):
                    serials[target] = None
        kept = sorted(serials)[-MAX_SERIALS:]
        if len(kept) < len(serials):
            log.error("%d revoked certificates do not fit the revocation list", len(serials) - len(kept))
        try:
            said = await self._context.signer.call("crl", serials=kept, number=max(1, facts.epoch))
        except VouchgateError as error:
            log.error("no revocation list was made: %s", error.reason)
            return self._crls
        return list(said["crls"])


def _bundle(bundle: TrustBundle) -> dict[str, Any]:
    return {"x509": b"".join(bundle.x509_authorities), "jwks": write_jwks(bundle, uses=("jwt-svid",))}


def _is_serial(text: str) -> bool:
    try:
        serial_number(text)
    except InvalidInput:
        return False
    return True
