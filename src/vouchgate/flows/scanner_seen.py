"""Which scanner this control plane has worked with: the highest version of its rules and of its knowledge base. Neither ever goes down.

1. It is a record of its own, so a restart, a new TrustRoot and the loss of every vouch leave it as it is.
2. Whoever puts back an older package, or an older knowledge base with its own good signature, has nothing scanned by it: nothing is taken in, and
   no scan is taken away.
3. One version is one knowledge base: another content under a number that was seen is refused as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from vouchgate.vocabulary.errors import Conflict, InvalidInput
from vouchgate.vocabulary.vouches import Method

KEY = "scanner-seen"
"""The record's key among the settings."""
REMEDY = "install the newer vouchgate again; an older one is never used, because it may pass what is known to be unsafe"


@dataclass(frozen=True)
class Seen:
    """As it is kept: `<rules> <knowledge> <digest of the knowledge base>`."""

    rules: int = 0
    knowledge: int = 0
    digest: str = ""

    @property
    def text(self) -> str:
        """What `parse` reads."""
        return f"{self.rules} {self.knowledge} {self.digest}".strip()


def parse(text: str) -> Seen:
    """Nothing was seen where `text` is empty. Raises `InvalidInput`."""
    rules, _, rest = text.partition(" ")
    knowledge, _, digest = rest.partition(" ")
    if not text:
        return Seen()
    if not all(one.isascii() and one.isdigit() and len(one) <= 9 for one in (rules, knowledge)):
        raise InvalidInput(f"`{text[:80]}` are no versions of a scanner", remedy="install vouchgate again")
    return Seen(int(rules), int(knowledge), digest)


def of_method(method: Method) -> Seen:
    """What a scanner without allowances says of itself. Raises `InvalidInput`."""
    return parse(f"{method.version} {method.knowledge_version or '0'}")


def newer(before: Seen, now: Seen) -> Seen | None:
    """What is to be remembered from now on; None where that is nothing new. Raises `Conflict` (rules 2 and 3)."""
    if now.rules < before.rules:
        raise Conflict(f"the scanner's rules are of version {now.rules}, and version {before.rules} was used here", remedy=REMEDY)
    if now.knowledge < before.knowledge:
        raise Conflict(f"the knowledge base is of version {now.knowledge}, and version {before.knowledge} was used here", remedy=REMEDY)
    if now.knowledge == before.knowledge and before.digest and now.digest != before.digest:
        raise Conflict(
            f"the knowledge base calls itself version {now.knowledge} and is not the one that was used here under that number",
            remedy="install vouchgate again from a source that you trust; `vouchgate knowledge verify` says who signed it",
        )
    return None if now == before else now
