"""The messages of the SPIFFE Workload API, from a descriptor that stands here (SPIFFE Workload API, appendix A).

The names, numbers and types are the standard's; the pool is our own, so that a process which also loads a client's generated messages
holds both.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

from vouchgate.vocabulary.errors import LimitExceeded

SERVICE = "SpiffeWorkloadAPI"
"""Full name of the service: the standard gives it no package."""
MAX_CLAIM_DEPTH = 16
"""Nesting of a token's claims; ours have two."""

_TEXT, _BYTES, _MESSAGE = "string", "bytes", "message"
_FIELDS: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "X509SVIDRequest": (),
    "X509SVIDResponse": (("svids", 1, "X509SVID", True), ("crl", 2, _BYTES, True), ("federated_bundles", 3, "map", True)),
    "X509SVID": (
        ("spiffe_id", 1, _TEXT, False),
        ("x509_svid", 2, _BYTES, False),
        ("x509_svid_key", 3, _BYTES, False),
        ("bundle", 4, _BYTES, False),
        ("hint", 5, _TEXT, False),
    ),
    "X509BundlesRequest": (),
    "X509BundlesResponse": (("crl", 1, _BYTES, True), ("bundles", 2, "map", True)),
    "JWTSVIDRequest": (("audience", 1, _TEXT, True), ("spiffe_id", 2, _TEXT, False)),
    "JWTSVIDResponse": (("svids", 1, "JWTSVID", True),),
    "JWTSVID": (("spiffe_id", 1, _TEXT, False), ("svid", 2, _TEXT, False), ("hint", 3, _TEXT, False)),
    "JWTBundlesRequest": (),
    "JWTBundlesResponse": (("bundles", 1, "map", True),),
    "ValidateJWTSVIDRequest": (("audience", 1, _TEXT, False), ("svid", 2, _TEXT, False)),
    "ValidateJWTSVIDResponse": (("spiffe_id", 1, _TEXT, False), ("claims", 2, "google.protobuf.Struct", False)),
}
"""Message -> (name, number, type, repeated); `map` is from a trust domain to bytes."""


def _file() -> Any:
    made = descriptor_pb2.FileDescriptorProto(name="vouchgate/workload.proto", syntax="proto3", dependency=[struct_pb2.DESCRIPTOR.name])
    kinds = descriptor_pb2.FieldDescriptorProto
    scalars = {_TEXT: kinds.TYPE_STRING, _BYTES: kinds.TYPE_BYTES}
    for name, fields in _FIELDS.items():
        message = made.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind == "map":
                entry = message.nested_type.add(name="".join(part.title() for part in field.split("_")) + "Entry")
                entry.options.map_entry = True
                entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
                entry.field.add(name="value", number=2, type=kinds.TYPE_BYTES, label=kinds.LABEL_OPTIONAL)
                message.field.add(name=field, number=number, type=kinds.TYPE_MESSAGE, type_name=f".{name}.{entry.name}", label=label)
            elif kind in scalars:
                message.field.add(name=field, number=number, type=scalars[kind], label=label)
            else:
                message.field.add(name=field, number=number, type=kinds.TYPE_MESSAGE, type_name=f".{kind}", label=label)
    return made


_pool = descriptor_pool.DescriptorPool()
_pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
_pool.AddSerializedFile(_file().SerializeToString())


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(name))


X509SVIDRequest, X509SVIDResponse, X509SVID = _class("X509SVIDRequest"), _class("X509SVIDResponse"), _class("X509SVID")
X509BundlesRequest, X509BundlesResponse = _class("X509BundlesRequest"), _class("X509BundlesResponse")
JWTSVIDRequest, JWTSVIDResponse, JWTSVID = _class("JWTSVIDRequest"), _class("JWTSVIDResponse"), _class("JWTSVID")
JWTBundlesRequest, JWTBundlesResponse = _class("JWTBundlesRequest"), _class("JWTBundlesResponse")
ValidateJWTSVIDRequest, ValidateJWTSVIDResponse = _class("ValidateJWTSVIDRequest"), _class("ValidateJWTSVIDResponse")


def fill_struct(struct: Any, claims: dict[str, Any], depth: int = 0) -> None:
    """Put claims into a `google.protobuf.Struct`. Raises `LimitExceeded` where they nest too deeply."""
    for name, value in claims.items():
        _fill(struct.fields[name], value, depth + 1)


def _fill(target: Any, value: Any, depth: int) -> None:
    if depth > MAX_CLAIM_DEPTH:
        raise LimitExceeded("the token's claims nest too deeply", remedy="send a token of this trust domain")
    if value is None:
        target.null_value = 0
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, list | tuple):
        target.list_value.SetInParent()
        for item in value:
            _fill(target.list_value.values.add(), item, depth + 1)
    else:
        target.struct_value.SetInParent()
        fill_struct(target.struct_value, value, depth)
