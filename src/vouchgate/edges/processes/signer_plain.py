"""Keys in files that nobody else may read: PKCS #8 DER (RFC 5958) as it is, `NAME.key`, 0600.

Left to others: the folder's rules (signer_folder.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from vouchgate.edges.processes.signer_folder import RESTORE, Folder, checked_name
from vouchgate.vocabulary.errors import StoreDamaged


class Certificates:
    """What every place of keys shares: certificates are public, and lie in files."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    @property
    def trouble(self) -> str:
        """What keeps the keys from signing; files that were opened have none."""
        return ""

    def look(self) -> None:
        """Nothing to see: an opened key is in memory."""

    def has_certificate(self, name: str) -> bool:
        """Whether there is a certificate of this name."""
        return self.folder.has(f"{checked_name(name)}.crt")

    def certificate(self, name: str) -> bytes:
        """DER. Raises `StoreDamaged`."""
        return self.folder.read(f"{checked_name(name)}.crt")

    def put_certificate(self, name: str, der: bytes) -> None:
        """Keep it durably."""
        self.folder.write(f"{checked_name(name)}.crt", der)


AnyKey = EllipticCurvePrivateKey | Ed25519PrivateKey


class KeyFiles(Certificates, ABC):
    """A `KeyStore` (flows/keystore.py) of one file for each key, however it is closed."""

    slow = False
    place: Literal["file", "encrypted", "token"]
    suffix: str

    @abstractmethod
    def take(self, name: str, key: AnyKey) -> None:
        """Keep a key that was made elsewhere."""

    @abstractmethod
    def open(self, name: str) -> AnyKey:
        """A key of either kind. Raises `StoreDamaged`."""

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return self.folder.has(self.file(name))

    def ec(self, name: str, *, make: bool = False) -> EllipticCurvePrivateKey:
        """A P-256 key."""
        if make:
            self.take(name, generate_private_key(SECP256R1()))
        key = self.open(name)
        if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
            raise StoreDamaged(f"the key file `{self.file(name)}` does not hold a P-256 key", remedy=RESTORE)
        return key

    def ed25519(self, name: str, *, make: bool = False) -> Ed25519PrivateKey:
        """An Ed25519 key."""
        if make:
            self.take(name, Ed25519PrivateKey.generate())
        key = self.open(name)
        if not isinstance(key, Ed25519PrivateKey):
            raise StoreDamaged(f"the key file `{self.file(name)}` does not hold an Ed25519 key", remedy=RESTORE)
        return key

    def remove(self, name: str) -> None:
        """Erase key and certificate."""
        self.folder.erase(self.file(name))
        self.folder.erase(f"{name}.crt")

    def file(self, name: str) -> str:
        """The file of a key. Raises `InvalidInput` for what is no name."""
        return f"{checked_name(name)}{self.suffix}"


class PlainKeys(KeyFiles):
    """Keys as they are."""

    place = "file"
    suffix = ".key"

    def take(self, name: str, key: AnyKey) -> None:
        """Keep a key that was made elsewhere."""
        self.folder.write(self.file(name), key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))

    def open(self, name: str) -> AnyKey:
        """A key of either kind. Raises `StoreDamaged`."""
        file = self.file(name)
        try:
            key = load_der_private_key(self.folder.read(file), password=None)
        except (ValueError, TypeError):
            # the parser's own text may quote the file
            raise StoreDamaged(f"the key file `{file}` cannot be read", remedy=RESTORE) from None
        if not isinstance(key, EllipticCurvePrivateKey | Ed25519PrivateKey):
            raise StoreDamaged(f"the key file `{file}` holds a key of another kind", remedy=RESTORE)
        return key
