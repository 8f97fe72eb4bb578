"""Keys in a PKCS #11 token (PKCS #11 v3.1, OASIS), used through python-pkcs11, which the extra `hsm` brings.

Rules
1. A private key is made in the token, or brought in once, with CKA_SENSITIVE and without CKA_EXTRACTABLE (section 4.9): nothing reads it again.
2. A PIN is tried once. What the token refuses is told to `refused`, which must make that durable, and this object never logs in again: a
   token locks itself after few tries. A token that says that the next wrong PIN locks it, or that it is locked, is not tried at all.
3. A token that went away is opened again, at most once in `REOPEN_SECONDS`, with the PIN that it took before, read anew where it is kept.
   Meanwhile every operation is `Unavailable`.
4. ECDSA signs a SHA-256 made here (CKM_ECDSA), because not every token hashes; s is put into the lower half, which gives the same signature
   its one spelling without asking the token twice.
5. One call at a time: python-pkcs11 starts a module with C_Initialize(NULL), by which the module may take it that no two threads are in it
   (section 5.4); SoftHSM2 corrupts its memory where they are.
Left to others: which keys there are, and files (edges/processes/signer_token.py).
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unavailable, Unsupported

REOPEN_SECONDS = 1.0
"""Seconds between tries to reach a token that is gone: a loop of logins would flood its audit log."""
HANG_SECONDS = 5.0
"""Seconds that an operation waits for those before it; a token that takes longer hangs."""
ID_BYTES = 16
"""Bytes of CKA_ID: random, so that keys made anew never share one."""
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order of P-256 (SEC 2, section 2.4.2)."""
PARAMETERS = {"p256": bytes.fromhex("06082a8648ce3d030107"), "ed25519": bytes.fromhex("06032b6570")}
"""CKA_EC_PARAMS: the curve's object identifier (RFC 5480, section 2.1.1; RFC 8410, section 3)."""
Kind = Literal["p256", "ed25519"]
T = TypeVar("T")
_MECHANISMS = {"p256": (0x1040, 0x1041), "ed25519": (0x1055, 0x1057), "hmac": (0x350, 0x251)}
"""Generating and signing: CKM_EC_KEY_PAIR_GEN and CKM_ECDSA, CKM_EC_EDWARDS_KEY_PAIR_GEN and CKM_EDDSA, CKM_GENERIC_SECRET_KEY_GEN and
CKM_SHA256_HMAC."""
_COUNT_LOW, _FINAL_TRY, _LOCKED = 0x10000, 0x20000, 0x40000
"""Flags of a token's user PIN (section 3.3, CK_TOKEN_INFO)."""
_REMOVED = "bring the token back; it is opened again by itself"


class Token:
    """One token of one module, found by its label."""

    def __init__(self, module: str, label: str, pin: Callable[[], bytearray], refused: Callable[[str], None]) -> None:
        self._module, self._label, self._pin, self._refused = module, label, pin, refused
        self._lock = threading.Lock()
        self._session: _Session | None = None
        self._opened = False
        self._tried_at = -REOPEN_SECONDS
        self._locked_out = ""
        self.serial = ""
        self.trouble = ""
        """Why the last operation did not come about; empty where it did."""
        self._mechanisms: frozenset[int] = frozenset()

    def open(self) -> None:
        """Find the token and log in. Raises `Unsupported`, `Unavailable`, `NotPermitted` (the PIN), `Conflict` (two tokens of the label)."""
        with self._lock:
            self._connect()

    def can(self, what: Literal["p256", "ed25519", "hmac"]) -> bool:
        """Whether the token makes and uses such keys."""
        return set(_MECHANISMS[what]) <= self._mechanisms

    def make(self, kind: Kind, label: str) -> tuple[bytes, bytes]:
        """(id, public point) of a new key pair. Raises `Unsupported` where the token does not know the curve."""
        if not self.can(kind):
            raise Unsupported(
                f"the token `{self._label}` makes no {kind} keys", remedy="use a token that does, or keep these keys in files"
            )
        identity = secrets.token_bytes(ID_BYTES)
        self._do(lambda session: session.make(kind, label, identity))
        return identity, self.public(identity)

    def bring(self, kind: Kind, label: str, secret: bytes, point: bytes) -> bytes:
        """The id of a key that was made elsewhere. Raises `Unsupported` where the token takes none."""
        identity = secrets.token_bytes(ID_BYTES)
        try:
            self._do(lambda session: session.bring(kind, label, identity, secret, point))
        except Unavailable as error:
            remedy = "make new keys in the token (`--generate`), and sign a new TrustRoot"
            raise Unsupported(f"the token takes no keys from outside: {error.reason}", remedy=remedy) from None
        return identity

    def destroy(self, identity: bytes) -> None:
        """Remove both halves; nothing where there are none."""
        self._do(lambda session: session.destroy(identity))

    def public(self, identity: bytes) -> bytes:
        """The public point: 65 bytes uncompressed (P-256) or 32 (Ed25519). Raises `NotFound`."""
        return self._do(lambda session: session.point(identity))

    def sealed(self, identity: bytes) -> bool:
        """Whether the private key can never be read (rule 1)."""
        return self._do(lambda session: session.sealed(identity))

    def sign_p256(self, identity: bytes, data: bytes) -> bytes:
        """DER of an ECDSA signature over SHA-256 of `data`, s in the lower half."""
        digest = hashlib.sha256(data).digest()
        raw = self._do(lambda session: session.sign(identity, digest, _MECHANISMS["p256"][1]))
        if len(raw) != 64:
            raise Unavailable(f"the token gave a signature of {len(raw)} bytes", remedy="check that it is for P-256")
        r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        return encode_dss_signature(r, min(s, ORDER - s))

    def sign_ed25519(self, identity: bytes, data: bytes) -> bytes:
        """64 bytes (RFC 8032, section 5.1.6)."""
        return self._do(lambda session: session.sign(identity, data, _MECHANISMS["ed25519"][1]))

    def make_hmac(self, label: str) -> bytes:
        """The id of a new secret that only `hmac` uses."""
        identity = secrets.token_bytes(ID_BYTES)
        self._do(lambda session: session.make_hmac(label, identity))
        return identity

    def hmac(self, identity: bytes, data: bytes) -> bytes:
        """HMAC-SHA-256 under a secret that never leaves the token."""
        return self._do(lambda session: session.sign(identity, data, _MECHANISMS["hmac"][1], secret=True))

    # -- the session

    def _do(self, work: Callable[[_Session], T]) -> T:
        """Whatever is asked of the token goes through here, one after the other (rule 5), so that `trouble` is true."""
        if not self._lock.acquire(timeout=HANG_SECONDS):
            self.trouble = f"the token `{self._label}` does not answer"
            raise Unavailable(self.trouble, remedy="see the token's own log; end vouchgate and start it again")
        try:
            done = self._twice(work)
        except (Unavailable, NotPermitted) as error:
            self.trouble = error.reason
            raise
        finally:
            self._lock.release()
        self.trouble = ""
        return done

    def _twice(self, work: Callable[[_Session], T]) -> T:
        """Once, and once more after the token was opened anew: what it did before it went away cannot be told from what it did not."""
        import pkcs11

        for last in (False, True):
            if self._session is None:
                self._connect()
            assert self._session is not None
            try:
                return work(self._session)
            except pkcs11.PKCS11Error as error:
                answered = type(error).__name__ in _ANSWERS
                if not answered:
                    self._session = None
                if last or answered:
                    raise Unavailable(f"the token `{self._label}` refuses: {_told(error)}", remedy="see the token's own log") from None
        raise AssertionError

    def _connect(self) -> None:
        if self._locked_out:
            raise NotPermitted(self._locked_out, remedy=_NEW_PIN)
        if time.monotonic() - self._tried_at < REOPEN_SECONDS:
            raise Unavailable(f"the token `{self._label}` is gone", remedy=_REMOVED)
        self._tried_at = time.monotonic()
        token = self._found()
        self._mechanisms = frozenset(int(one) for one in token.slot.get_mechanisms())
        self.serial = token.serial.decode("ascii", "replace").strip()
        self._hold_flags(int(token.flags))
        self._session = _Session(self._logged_in(token))
        if not self._opened:
            self._opened, self._tried_at = True, -REOPEN_SECONDS

    def _found(self) -> Any:
        try:
            import pkcs11
        except ModuleNotFoundError:
            raise Unsupported("python-pkcs11 is not installed", remedy="pip install 'vouchgate[hsm]'") from None
        try:
            library = pkcs11.lib(self._module)
            if self._opened:
                # a token that was plugged in again is seen only after C_Initialize (section 5.4)
                library.reinitialize()
            tokens = list(library.get_tokens(token_label=self._label))
        except (pkcs11.PKCS11Error, RuntimeError, OSError) as error:
            raise Unavailable(f"the PKCS #11 module does not work: {_told(error)}", remedy=f"check `[keys] module`; {_REMOVED}") from None
        if not tokens:
            raise Unavailable(f"there is no token `{self._label}`", remedy=f"check `[keys] token`; {_REMOVED}")
        if len(tokens) > 1:
            raise Conflict(f"{len(tokens)} tokens have the label `{self._label}`", remedy="give each its own")
        return tokens[0]

    def _hold_flags(self, flags: int) -> None:
        """Rule 2."""
        if flags & (_FINAL_TRY | _LOCKED):
            why = "is locked" if flags & _LOCKED else "locks at the next wrong PIN"
            raise NotPermitted(f"the token `{self._label}` {why}, so it is not tried", remedy="log in once with the token's own tool")

    def _logged_in(self, token: Any) -> Any:
        import pkcs11

        pin = self._pin()
        try:
            return token.open(rw=True, user_pin=pin.decode("utf-8", "strict"))
        except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinLocked, pkcs11.PinExpired) as error:
            self._locked_out = f"the token `{self._label}` refused the PIN ({type(error).__name__}); it is not tried again"
            self._refused(self._locked_out)
            raise NotPermitted(self._locked_out, remedy=_NEW_PIN) from None
        except UnicodeDecodeError:
            raise InvalidInput("the PIN is not text", remedy="write the PIN in UTF-8") from None
        except pkcs11.PKCS11Error as error:
            raise Unavailable(f"the token `{self._label}` does not open: {_told(error)}", remedy=_REMOVED) from None
        finally:
            pin[:] = bytes(len(pin))


_NEW_PIN = "correct the PIN, then allow one more try: `vouchgate admin try-pin`"
_ANSWERS = frozenset(
    {
        "AttributeReadOnly", "AttributeSensitive", "AttributeTypeInvalid", "AttributeValueInvalid", "ArgumentsBad", "CurveNotSupported",
        "DomainParamsInvalid", "FunctionNotSupported", "KeySizeRange", "KeyTypeInconsistent", "MechanismInvalid", "MechanismParamInvalid",
        "SessionReadOnly", "TemplateIncomplete", "TemplateInconsistent", "TokenWriteProtected", "KeyFunctionNotPermitted", "ActionProhibited",
    }
)  # fmt: skip
"""Answers of a token that lives: opening it again would change nothing."""


def _told(error: Exception) -> str:
    """The name of the return value; a module's own text is not passed on."""
    return type(error).__name__


class _Session:
    """The session that is logged in."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._keys: dict[bytes, Any] = {}

    def sign(self, identity: bytes, data: bytes, mechanism: int, *, secret: bool = False) -> bytes:
        import pkcs11

        key = self._keys.get(identity)
        if key is None:
            key = self._keys[identity] = self._one(identity, pkcs11.ObjectClass.SECRET_KEY if secret else pkcs11.ObjectClass.PRIVATE_KEY)
        return bytes(key.sign(data, mechanism=pkcs11.Mechanism(mechanism)))

    def point(self, identity: bytes) -> bytes:
        import pkcs11

        raw = bytes(self._one(identity, pkcs11.ObjectClass.PUBLIC_KEY)[pkcs11.Attribute.EC_POINT])
        # CKA_EC_POINT is a DER octet string (section 6.3.3), which some tokens leave out
        return raw[2:] if raw[:1] == b"\x04" and len(raw) in (34, 67) and raw[1] == len(raw) - 2 else raw

    def sealed(self, identity: bytes) -> bool:
        import pkcs11

        key = self._one(identity, pkcs11.ObjectClass.PRIVATE_KEY)
        return bool(key[pkcs11.Attribute.SENSITIVE]) and not key[pkcs11.Attribute.EXTRACTABLE]

    def make(self, kind: Kind, label: str, identity: bytes) -> None:
        import pkcs11

        of = pkcs11.KeyType.EC if kind == "p256" else pkcs11.KeyType.EC_EDWARDS
        curve = self._session.create_domain_parameters(of, {pkcs11.Attribute.EC_PARAMS: PARAMETERS[kind]}, local=True)
        curve.generate_keypair(
            store=True,
            label=label,
            id=identity,
            capabilities=pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
            mechanism=pkcs11.Mechanism(_MECHANISMS[kind][0]),
            private_template=_never_read(),
        )

    def bring(self, kind: Kind, label: str, identity: bytes, secret: bytes, point: bytes) -> None:
        import pkcs11

        a = pkcs11.Attribute
        of = pkcs11.KeyType.EC if kind == "p256" else pkcs11.KeyType.EC_EDWARDS
        both = {a.KEY_TYPE: of, a.TOKEN: True, a.LABEL: label, a.ID: identity, a.EC_PARAMS: PARAMETERS[kind]}
        private = {a.CLASS: pkcs11.ObjectClass.PRIVATE_KEY, a.VALUE: secret, a.PRIVATE: True, a.SIGN: True, **_never_read()}
        octets = bytes((4, len(point))) + point
        self._session.create_object({**both, a.CLASS: pkcs11.ObjectClass.PUBLIC_KEY, a.EC_POINT: octets, a.PRIVATE: False, a.VERIFY: True})
        self._session.create_object({**both, **private})

    def make_hmac(self, label: str, identity: bytes) -> None:
        import pkcs11

        self._session.generate_key(
            pkcs11.KeyType.GENERIC_SECRET,
            256,
            store=True,
            label=label,
            id=identity,
            capabilities=pkcs11.MechanismFlag.SIGN,
            mechanism=pkcs11.Mechanism(_MECHANISMS["hmac"][0]),
            template=_never_read(),
        )

    def destroy(self, identity: bytes) -> None:
        import pkcs11

        self._keys.pop(identity, None)
        for found in list(self._session.get_objects({pkcs11.Attribute.ID: identity})):
            found.destroy()

    def _one(self, identity: bytes, of: Any) -> Any:
        import pkcs11

        found = list(self._session.get_objects({pkcs11.Attribute.ID: identity, pkcs11.Attribute.CLASS: of}))
        if len(found) == 1:
            return found[0]
        if found:
            raise Conflict("two objects of the token have one id", remedy="remove the one that does not belong to vouchgate")
        if not list(self._session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY})):
            # an empty answer of a token that held keys: it was taken out, and its session not ended
            raise pkcs11.TokenNotPresent
        raise NotFound("the token does not hold the key", remedy="use the token that the keys were made in, or restore its backup")


def _never_read() -> dict[Any, Any]:
    """Rule 1."""
    import pkcs11

    return {pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False}
