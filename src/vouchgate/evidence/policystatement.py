"""A signed policy version: which digest is version n, who wrote it, who agreed. Versions only rise; going back is a new version.

The payload is the deterministic encoding of `PolicyStatement`, signed as DSSE under its own type by the policy key.
"""

from __future__ import annotations

import re

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vouchgate.evidence.dsse import Envelope, holds, parse_envelope, sign, write_envelope
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.names import TrustDomain
from vouchgate.vocabulary.trust import TrustRoot
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun, decode, encode

PAYLOAD_TYPE = "application/vnd.vouchgate.policy+json"
_DIGEST = re.compile(r"(?:sha256:)?[0-9a-f]{64}\Z")
_REMEDY = "apply the policy again: `vouchgate policy apply`"


class PolicyStatement(Noun, frozen=True, kw_only=True):
    """What the policy key signs."""

    trust_domain: TrustDomain
    version: int
    policy_digest: str
    author: str
    approver: str
    """The same as `author` only where one person alone runs the installation (`--solo`)."""
    signed_at: UnixMillis


def sign_policy(statement: PolicyStatement, key: Ed25519PrivateKey) -> bytes:
    """DSSE envelope over the statement. Raises `InvalidInput`."""
    if statement.version < 1 or not _DIGEST.match(statement.policy_digest) or not statement.author or not statement.approver:
        raise InvalidInput("the policy statement is incomplete", remedy="give version, digest, author and approver")
    payload = encode(statement)
    return write_envelope(Envelope(PAYLOAD_TYPE, payload, (sign(PAYLOAD_TYPE, payload, key),)))


def verify_policy(envelope: bytes, trust_root: TrustRoot, *, current_version: int) -> PolicyStatement:
    """The statement, if a policy key of the TrustRoot signed it and it is not older than the one in force. Raises `Unverified`."""
    try:
        parsed = parse_envelope(envelope, payload_type=PAYLOAD_TYPE)
        statement = decode(PolicyStatement, parsed.payload, what="policy statement")
    except InvalidInput as error:
        raise Unverified(error.reason, remedy=_REMEDY) from None
    spkis = {key.key_id: key.spki for key in trust_root.keys if key.purpose == "policy"}
    by = parsed.signatures[0]
    if len(parsed.signatures) != 1 or by.key_id not in spkis:
        raise Unverified("the policy is not signed by the policy key", remedy=_REMEDY)
    if not holds(PAYLOAD_TYPE, parsed.payload, by.signature, spkis[by.key_id]) or encode(statement) != parsed.payload:
        raise Unverified("the policy's signature does not hold", remedy=_REMEDY)
    if statement.trust_domain != trust_root.trust_domain:
        raise Unverified(f"the policy is of trust domain `{statement.trust_domain}`", remedy=_REMEDY)
    if statement.version < current_version:
        raise Unverified(f"policy version {statement.version} is older than {current_version}", remedy="give it a new, higher version")
    return statement
