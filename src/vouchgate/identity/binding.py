"""What a certificate is bound to beside its name: the model, lineage, run and inputs of a composite identity, in the signed part.

    SubjectDirectoryAttributes (RFC 5280, section 4.2.1.8; never critical) ::= SEQUENCE OF { type, values SET }
    type   2.25.286707977007701993839508806669913185905   (a UUID as an arc: X.667, section 7)
    value  SEQUENCE { [0] model digest  [1] lineage root  [2] run  [3] zone  [4] stage  [5] inputs }   each implicit UTF8String, optional

Rules
1. The type stands inside a standard extension, not as an extension of its own: Go's reader refuses a whole certificate for an extension id
   with an arc above 2^31 (golang/go issue 30757; RFC 5280, appendix B, asks readers for 2^28 alone), and looks into no attribute.
2. One binding has one spelling: fields in order, none empty, none twice; `read_binding(write_binding(b)) == b`, and the other way round.
3. A certificate with the extension and anything else in it is refused: nobody but our signer puts one there.
Left to others: whether what it says holds (the control plane, from evidence, before it asks the signer).
"""

from __future__ import annotations

import re
from typing import Final

from cryptography import x509

from vouchgate.identity import der
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.principals import Binding

ATTRIBUTE: Final = "2.25.286707977007701993839508806669913185905"
"""The attribute's type; its UUID is d7b1f2a4-6c0e-4f53-9a86-3c1f0be25e71."""
EXTENSION: Final = x509.ObjectIdentifier("2.5.29.9")
"""id-ce-subjectDirectoryAttributes."""
MAX_BINDING_BYTES = 1_024
"""Bytes of the extension's value; a full one has about 420."""
_WORD = re.compile(r"[a-z0-9._-]{1,64}\Z")
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_DIGEST = re.compile(r"sha256(?:-[a-z]{1,16})?:[0-9a-f]{64}\Z")
FIELDS: Final = (("model_digest", _DIGEST), ("lineage_root", _HEX), ("run", _WORD), ("zone", _WORD), ("stage", _WORD), ("inputs", _HEX))
"""In the order of their tags."""
_REMEDY = "ask for a certificate of this trust domain's signer"


def _arc(number: int) -> bytes:
    parts = [number & 0x7F]
    while number := number >> 7:
        parts.append(0x80 | (number & 0x7F))
    return bytes(reversed(parts))


_TYPE = der.write(der.OBJECT_ID, bytes((2 * 40 + 25,)) + _arc(int(ATTRIBUTE.rpartition(".")[2])))


def check_binding(binding: Binding) -> None:
    """Hold every field to its grammar. Raises `InvalidInput`."""
    wrong = [name for name, pattern in FIELDS if getattr(binding, name) and not pattern.match(getattr(binding, name))]
    if wrong or binding.empty:
        raise InvalidInput(
            f"the binding's `{wrong[0]}` is malformed" if wrong else "the binding binds nothing",
            remedy="name digests as `sha256:` and 64 hexadecimal digits, the rest as it is recorded",
        )


def write_binding(binding: Binding) -> bytes:
    """DER of the extension's value. Raises `InvalidInput`."""
    check_binding(binding)
    said = [(0x80 | number, getattr(binding, name)) for number, (name, _) in enumerate(FIELDS)]
    value = der.write(der.SEQUENCE, b"".join(der.write(tag, text.encode()) for tag, text in said if text))
    return der.write(der.SEQUENCE, der.write(der.SEQUENCE, _TYPE + der.write(der.SET, value)))


def read_binding(data: bytes) -> Binding:
    """The binding of an extension's value. Raises `InvalidInput`."""
    if len(data) > MAX_BINDING_BYTES:
        raise InvalidInput("the binding is over the bound", remedy=_REMEDY)
    attribute = der.only(der.only(data, der.SEQUENCE), der.SEQUENCE)
    if not attribute.startswith(_TYPE):
        raise InvalidInput("the certificate has an attribute that is no binding", remedy=_REMEDY)
    said: dict[str, str] = {}
    for tag, content in der.values(der.only(der.only(attribute[len(_TYPE) :], der.SET), der.SEQUENCE)):
        if not 0x80 <= tag < 0x80 + len(FIELDS):
            raise InvalidInput("the binding has an unknown field", remedy=_REMEDY)
        try:
            said[FIELDS[tag - 0x80][0]] = content.decode("ascii")
        except UnicodeDecodeError:
            raise InvalidInput("the binding has a field that is not text", remedy=_REMEDY) from None
    binding = Binding(**said)
    if write_binding(binding) != data:
        raise InvalidInput("the binding is not in its one spelling", remedy=_REMEDY)
    return binding


def binding_of(certificate: x509.Certificate) -> Binding | None:
    """What a certificate is bound to, if anything. Raises `InvalidInput`."""
    for extension in certificate.extensions:
        if extension.oid == EXTENSION:
            if extension.critical or not isinstance(extension.value, x509.UnrecognizedExtension):
                raise InvalidInput("the binding is marked critical", remedy=_REMEDY)
            return read_binding(extension.value.value)
    return None
