"""Keys in a PKCS #11 token: beside each, `NAME.token` says which object it is and which public key it has.

Rules
1. The token is used only through the object's id, and the public key that it shows must be the one written down: a token that was swapped,
   or an object that was replaced, is damage. Each key signs once when it is opened, and the signature is checked with that public key.
2. A handle that is given out offers `sign` and `public_key`; asking it for its private half raises `Unsupported`.
3. A token that makes no Ed25519 keys holds the P-256 keys alone; the others lie in files, sealed under a secret that only the token can use
   (HMAC-SHA-256), so that they too open only with the token and its PIN.
4. Removing a key destroys the object. A crash between making an object and writing its file leaves an object that nothing names; the objects'
   label is `vouchgate <trust domain> <name>`.
Left to others: sessions, the PIN, reopening (ports/pkcs11.py).
"""

from __future__ import annotations

import contextlib
from typing import Any, Literal, NoReturn, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from vouchgate.edges.processes.signer_folder import RESTORE, Folder, checked_name
from vouchgate.edges.processes.signer_plain import AnyKey, Certificates
from vouchgate.edges.processes.signer_sealed import Seal, SealedKeys, master_of, new_master, new_seal, parts_of, read_seal
from vouchgate.vocabulary.errors import InvalidInput, NotFound, StoreDamaged, Unsupported, VouchgateError
from vouchgate.vocabulary.wire import Noun, decode, encode

TOKEN_SEAL = "token-seal.json"  # noqa: S105 - the name of a file
BESIDE = ".tsealed"
Kind = Literal["p256", "ed25519"]


class TokenLike(Protocol):
    """`ports.pkcs11.Token`."""

    serial: str
    trouble: str

    def can(self, what: Literal["p256", "ed25519", "hmac"]) -> bool: ...
    def make(self, kind: Kind, label: str) -> tuple[bytes, bytes]: ...
    def bring(self, kind: Kind, label: str, secret: bytes, point: bytes) -> bytes: ...
    def destroy(self, identity: bytes) -> None: ...
    def public(self, identity: bytes) -> bytes: ...
    def sealed(self, identity: bytes) -> bool: ...
    def sign_p256(self, identity: bytes, data: bytes) -> bytes: ...
    def sign_ed25519(self, identity: bytes, data: bytes) -> bytes: ...
    def make_hmac(self, label: str) -> bytes: ...
    def hmac(self, identity: bytes, data: bytes) -> bytes: ...


class TokenKey(Noun, frozen=True, kw_only=True):
    """NAME.token"""

    version: Literal[1] = 1
    kind: Kind
    id: str
    """Hexadecimal CKA_ID."""
    spki: bytes
    """DER of the public key."""
    serial: str
    """The token's."""
    brought: bool = False
    """Whether it was made outside and brought in: then a copy may be elsewhere."""


class TokenEc(EllipticCurvePrivateKey):
    """A P-256 key that stays in its token (rule 2). `CertificateBuilder.sign` takes it as any other."""

    def __init__(self, token: TokenLike, identity: bytes, public: EllipticCurvePublicKey) -> None:
        self._token, self._identity, self._public = token, identity, public

    curve = SECP256R1()
    key_size = 256

    def sign(self, data: Any, signature_algorithm: Any) -> bytes:
        """DER, s in the lower half. Raises `Unavailable` where the token does not answer."""
        chosen = signature_algorithm.algorithm if isinstance(signature_algorithm, ECDSA) else None
        if not isinstance(chosen, hashes.SHA256) or isinstance(chosen, Prehashed):
            raise Unsupported("the token signs with ECDSA and SHA-256 alone", remedy="use ES256")
        return self._token.sign_p256(self._identity, bytes(data))

    def public_key(self) -> EllipticCurvePublicKey:
        """The public half."""
        return self._public

    def exchange(self, algorithm: Any, peer_public_key: Any) -> bytes:
        """Not offered."""
        _never()

    def private_numbers(self) -> Any:
        """Not offered."""
        _never()

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> bytes:
        """Not offered."""
        _never()

    def __copy__(self) -> TokenEc:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TokenEc:
        return self


class TokenEd25519(Ed25519PrivateKey):
    """An Ed25519 key that stays in its token (rule 2)."""

    def __init__(self, token: TokenLike, identity: bytes, public: Ed25519PublicKey) -> None:
        self._token, self._identity, self._public = token, identity, public

    def sign(self, data: Any) -> bytes:
        """64 bytes. Raises `Unavailable` where the token does not answer."""
        return self._token.sign_ed25519(self._identity, bytes(data))

    def public_key(self) -> Ed25519PublicKey:
        """The public half."""
        return self._public

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> bytes:
        """Not offered."""
        _never()

    def private_bytes_raw(self) -> bytes:
        """Not offered."""
        _never()

    def __copy__(self) -> TokenEd25519:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TokenEd25519:
        return self


class TokenKeys(Certificates):
    """A `KeyStore` (flows/keystore.py)."""

    slow = True
    place: Literal["file", "encrypted", "token"] = "token"
    suffix = ".token"

    def __init__(self, folder: Folder, trust_domain: str, token: TokenLike) -> None:
        super().__init__(folder)
        self._trust_domain, self._token = trust_domain, token
        self._beside: SealedKeys | None = None

    @property
    def trouble(self) -> str:
        """Why the token did not do what it was last asked; empty where it did."""
        return self._token.trouble

    def look(self) -> None:
        """Ask the token for a public key, so that `trouble` is true even where nothing is signed; blocks as long as the token does."""
        name = next((one for one in self.folder.names() if one.endswith(self.suffix)), "")
        if name:
            with contextlib.suppress(VouchgateError):
                self._token.public(bytes.fromhex(self._reference(name.removesuffix(self.suffix)).id))

    @property
    def beside(self) -> bool:
        """Whether Ed25519 keys lie in sealed files beside the token (rule 3)."""
        return not self._token.can("ed25519")

    def has(self, name: str) -> bool:
        """Whether there is a reference, or a sealed file, of this name."""
        return self.folder.has(f"{checked_name(name)}{self.suffix}") or self.folder.has(f"{name}{BESIDE}")

    def ec(self, name: str, *, make: bool = False) -> EllipticCurvePrivateKey:
        """A P-256 key in the token."""
        key = self._opened(name, "p256", make)
        assert isinstance(key, TokenEc)
        return key

    def ed25519(self, name: str, *, make: bool = False) -> Ed25519PrivateKey:
        """An Ed25519 key in the token, or beside it."""
        if self.folder.has(f"{checked_name(name)}{BESIDE}") or (make and self.beside):
            return self._sealed().ed25519(name, make=make)
        key = self._opened(name, "ed25519", make)
        assert isinstance(key, TokenEd25519)
        return key

    def take(self, name: str, key: AnyKey) -> None:
        """Bring in a key that was made elsewhere. Raises `Unsupported` where the token takes none."""
        kind, secret, spki = parts_of(key)
        if kind == "ed25519" and self.beside:
            return self._sealed().take(name, key)
        identity = self._token.bring(kind, self._label(name), secret, point_of(spki, kind))
        self._replace(name, TokenKey(kind=kind, id=identity.hex(), spki=spki, serial=self._token.serial, brought=True))
        self._checked(name, identity, kind, spki)
        return None

    def remove(self, name: str) -> None:
        """Destroy the object, then the files."""
        old = self._reference(name) if self.folder.has(f"{checked_name(name)}{self.suffix}") else None
        if old is not None:
            self._token.destroy(bytes.fromhex(old.id))
        for file in (f"{name}{self.suffix}", f"{name}{BESIDE}", f"{name}.crt"):
            self.folder.erase(file)

    def _opened(self, name: str, kind: Kind, make: bool) -> AnyKey:
        if make:
            identity, point = self._token.make(kind, self._label(name))
            public = _public(kind, point)
            self._replace(name, TokenKey(kind=kind, id=identity.hex(), spki=public, serial=self._token.serial))
        known = self._reference(name)
        if known.kind != kind:
            raise StoreDamaged(f"`{name}{self.suffix}` does not name a {kind} key", remedy=RESTORE)
        if known.serial != self._token.serial:
            raise StoreDamaged(
                f"the key `{name}` is in the token {known.serial[:32]}, this one is {self._token.serial[:32]}",
                remedy="set `[keys] token` to the token that the keys were made in",
            )
        return self._checked(name, bytes.fromhex(known.id), kind, known.spki)

    def _checked(self, name: str, identity: bytes, kind: Kind, spki: bytes) -> AnyKey:
        """Rule 1."""
        try:
            shown = _public(kind, self._token.public(identity))
        except (NotFound, InvalidInput) as error:
            raise StoreDamaged(f"the key `{name}`: {error.reason}", remedy=error.remedy) from None
        if shown != spki:
            raise StoreDamaged(f"the token shows another public key for `{name}`", remedy=RESTORE)
        if not self._token.sealed(identity):
            raise StoreDamaged(f"the token would give out the key `{name}`", remedy="make the key anew: `--replace-key`")
        try:
            return _proven(self._token, identity, load_der_public_key(spki))
        except InvalidSignature:
            raise StoreDamaged(f"the token signs with another key than `{name}`", remedy=RESTORE) from None

    def _replace(self, name: str, made: TokenKey) -> None:
        """The new reference first, then the old object: a crash leaves a key too many, never one too few."""
        old = self._reference(name) if self.folder.has(f"{name}{self.suffix}") else None
        self.folder.write(f"{name}{self.suffix}", encode(made))
        if old is not None and old.serial == made.serial:
            self._token.destroy(bytes.fromhex(old.id))

    def _reference(self, name: str) -> TokenKey:
        file = f"{checked_name(name)}{self.suffix}"
        try:
            known = decode(TokenKey, self.folder.read(file), what=f"`{file}`")
            bytes.fromhex(known.id)
        except (InvalidInput, ValueError):
            raise StoreDamaged(f"`{file}` cannot be read", remedy=RESTORE) from None
        return known

    def _sealed(self) -> SealedKeys:
        """Rule 3."""
        if self._beside is None:
            if not self._token.can("hmac"):
                raise Unsupported(
                    "the token makes neither Ed25519 keys nor HMAC secrets", remedy="keep the keys under a passphrase: `[keys] place`"
                )
            if not self.folder.has(TOKEN_SEAL):
                made = self._token.make_hmac(self._label("seal"))
                seal = new_seal(self._trust_domain, new_master(), self._unlock, by="token", token_key=made.hex())
                self.folder.write(TOKEN_SEAL, encode(seal))
            seal = read_seal(self.folder, TOKEN_SEAL)
            self._beside = SealedKeys(self.folder, self._trust_domain, master_of(self._trust_domain, seal, self._unlock), suffix=BESIDE)
        return self._beside

    def _unlock(self, seal: Seal) -> bytearray:
        try:
            identity = bytes.fromhex(seal.token_key)
        except ValueError:
            raise StoreDamaged(f"`{TOKEN_SEAL}` cannot be read", remedy=RESTORE) from None
        try:
            return bytearray(self._token.hmac(identity, b"vouchgate/signer-seal/v1/" + seal.salt))
        except NotFound as error:
            raise StoreDamaged(error.reason, remedy=error.remedy) from None

    def _label(self, name: str) -> str:
        return f"vouchgate {self._trust_domain} {name}"


_PROBE = b"vouchgate: is this the key?"
"""Signed when a key is opened: no certificate, token, checkpoint or DSSE payload begins like it."""


def _proven(token: TokenLike, identity: bytes, public: Any) -> AnyKey:
    """A handle that signed once. Raises `InvalidSignature`."""
    if isinstance(public, Ed25519PublicKey):
        edwards = TokenEd25519(token, identity, public)
        public.verify(edwards.sign(_PROBE), _PROBE)
        return edwards
    ecdsa = TokenEc(token, identity, public)
    public.verify(ecdsa.sign(_PROBE, ECDSA(hashes.SHA256())), _PROBE, ECDSA(hashes.SHA256()))
    return ecdsa


def point_of(spki: bytes, kind: Kind) -> bytes:
    """The bare public point of a SubjectPublicKeyInfo."""
    return spki[-65:] if kind == "p256" else spki[-32:]


def _public(kind: Kind, point: bytes) -> bytes:
    """DER SubjectPublicKeyInfo of a bare point. Raises `InvalidInput`."""
    try:
        key = (
            Ed25519PublicKey.from_public_bytes(point)
            if kind == "ed25519"
            else EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
        )
    except ValueError:
        raise InvalidInput("the token's public key cannot be read", remedy="use a token that knows P-256") from None
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _never() -> NoReturn:
    raise Unsupported("the key stays in its token", remedy="sign through the signer")
