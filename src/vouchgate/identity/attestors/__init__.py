"""One file per attestor. An attestor says which selectors hold for a workload; it collects nothing itself.

There are two kinds, of one type
- `collected`: a port read facts of the kernel or of a machine's manager, and the attestor maps them;
- `presented`: the caller hands over a token, a certificate or a document, and the attestor verifies it against keys that the control plane
  recorded before. Nothing in what is presented names the key that verifies it.
Rules
1. Every field, and every claim inside of what is presented, is required, optional or ignored by name; an unknown one fails.
2. `establish` is pure. What the caller did wrong is `Denied`; a port's broken facts are raised.
3. What is presented is used once: the caller of `establish` keeps `Attested.replay_key` until `Attested.expires_at` and refuses it again.
4. Selectors of two sources never mix: a source that is not named like the attestor's own prefix has its name in the selector's type
   (`prefix`), so `k8s:ns` of one cluster is not `k8s.other:ns`.
A file here defines `ATTESTOR = Attestor(...)`, and nothing else needs to change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vouchgate.identity.attested import Attested, JoinToken, Trust, prefix, selectors
from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

__all__ = ["Attested", "Attestor", "Establish", "JoinToken", "NonceForm", "Trust", "prefix", "selectors"]

NonceForm = Literal["", "text", "digits"]
"""`text`: 22 or more characters of base64url; `digits`: exactly ten decimal digits (all that Azure's service takes); empty: none."""
Establish = Callable[[Mapping[str, Any], Trust, UnixMillis, str], Attested | Denied]


@dataclass(frozen=True)
class Attestor:
    """How one kind of evidence about a workload becomes selectors."""

    name: str
    version: int
    fields: Fields
    """The facts it takes, or what the caller presents."""
    establish: Establish
    """Called with what `fields` accepted, the trust, the time and the nonce that the caller was given (empty for none)."""
    kind: Literal["collected", "presented"]
    nonce: NonceForm = ""
    """The nonce that must be made for each attempt and handed to `establish` once."""
