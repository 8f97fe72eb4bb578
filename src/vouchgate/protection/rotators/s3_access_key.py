"""An access key of an S3-style store, by the IAM Query API (AWS IAM, CreateAccessKey, ListAccessKeys, DeleteAccessKey; API version 2010-05-08).

AWS offers it, and so do stores that speak its IAM, for example Ceph's object gateway.

Rules
1. A user has at most two keys: every key but the one in use is deleted before a new one is made.
2. The proof is a signed HEAD of the bucket that the key is for. A new key may take seconds to be known everywhere, so a refusal is tried again.
3. A retired key is made inactive first, then deleted, and shown to be refused.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from vouchgate.protection.rotators import (
    REACHED,
    Config,
    Credential,
    Fresh,
    HttpAnswer,
    HttpAsk,
    Proof,
    Rotator,
    Story,
    http,
    not_accepted,
    still_accepted,
)
from vouchgate.protection.sigv4 import encoded, signed_headers
from vouchgate.vocabulary.errors import InvalidInput, Unavailable
from vouchgate.vocabulary.fields import Fields

IAM_VERSION = "2010-05-08"
MAX_ANSWER = 65_536
"""Bytes of an IAM answer; a user with two keys gives about 1 KiB."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}


def _make(config: Config, admin: Credential, current: Credential | None, fresh: Fresh) -> Story:
    keep = current["access_key"] if current is not None else ""
    listed = _texts(http((yield _iam(config, admin, fresh, "ListAccessKeys")), 200, doing="listing access keys"), "AccessKeyId")
    for key in listed:
        if key != keep:
            http((yield _iam(config, admin, fresh, "DeleteAccessKey", AccessKeyId=key)), 200, gone=(404,), doing="tidying up")
    made = http((yield _iam(config, admin, fresh, "CreateAccessKey")), 200, doing="making an access key")
    names, secrets = _texts(made, "AccessKeyId"), _texts(made, "SecretAccessKey")
    if len(names) != 1 or len(secrets) != 1:
        raise Unavailable("the owner's answer holds no access key", remedy="it is tried again by itself")
    return Credential({"access_key": names[0], "secret_key": secrets[0]})


def _prove(config: Config, credential: Credential, fresh: Fresh) -> Proof:
    answer = yield _head(config, credential, fresh)
    assert isinstance(answer, HttpAnswer)
    if answer.status in {401, 403}:
        raise not_accepted("the bucket cannot be reached with it")
    http(answer, 200, 204, doing="looking at the bucket")


def _retire(config: Config, admin: Credential, old: Credential, fresh: Fresh) -> Proof:
    key = old["access_key"]
    http(
        (yield _iam(config, admin, fresh, "UpdateAccessKey", AccessKeyId=key, Status="Inactive")), 200, gone=(404,), doing="ending the key"
    )
    http((yield _iam(config, admin, fresh, "DeleteAccessKey", AccessKeyId=key)), 200, gone=(404,), doing="deleting the key")


def _prove_retired(config: Config, old: Credential, fresh: Fresh) -> Proof:
    answer = yield _head(config, old, fresh)
    assert isinstance(answer, HttpAnswer)
    if answer.status in {200, 204}:
        raise still_accepted("the bucket can be reached with it")
    if answer.status not in {401, 403}:
        raise Unavailable(f"the store answered {answer.status}", remedy="it is tried again by itself")


def _iam(config: Config, admin: Credential, fresh: Fresh, action: str, **more: str) -> HttpAsk:
    url = config["iam_url"].rstrip("/") + "/"
    asked = {"Action": action, "Version": IAM_VERSION, "UserName": config["user"], **more}
    body = "&".join(f"{name}={encoded(value)}" for name, value in asked.items()).encode()
    headers = signed_headers(
        "POST",
        url,
        _FORM,
        body,
        access_key=admin["access_key"],
        secret_key=admin["secret_key"],
        region=config.get("iam_region", "us-east-1"),
        service="iam",
        now=fresh.now,
    )
    return HttpAsk("POST", url, headers, body)


def _head(config: Config, credential: Credential, fresh: Fresh) -> HttpAsk:
    if not _BUCKET.match(config["bucket"]):
        raise InvalidInput(f"`{config['bucket'][:64]}` is not a bucket", remedy="correct `bucket` in [[secrets]] `config`")
    url = f"{config['s3_url'].rstrip('/')}/{config['bucket']}"
    headers = signed_headers(
        "HEAD",
        url,
        {},
        b"",
        access_key=credential["access_key"],
        secret_key=credential["secret_key"],
        region=config.get("region", "us-east-1"),
        service="s3",
        now=fresh.now,
    )
    return HttpAsk("HEAD", url, headers)


def _texts(body: bytes, name: str) -> list[str]:
    """Texts of every element of that name. A document type is refused, so no entity can grow or reach out."""
    if len(body) > MAX_ANSWER or b"<!DOCTYPE" in body.upper() or b"<!ENTITY" in body.upper():
        raise Unavailable("the owner's answer is over the bound, or no plain XML", remedy="check `iam_url` in [[secrets]] `config`")
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - without a document type there is nothing to expand
    except ElementTree.ParseError:
        raise Unavailable("the owner's answer is not XML", remedy="it is tried again by itself") from None
    return [(one.text or "").strip() for one in root.iter() if one.tag.rpartition("}")[2] == name]


ROTATOR = Rotator(
    name="s3-access-key",
    version=1,
    summary="an access key of an S3-style store by the IAM Query API; proved by a signed look at its bucket",
    config=Fields(
        required={"iam_url": "text", "s3_url": "text", "bucket": "text", "user": "text"},
        optional={"region": "text", "iam_region": "text", **REACHED},
    ),
    admin_parts=("access_key", "secret_key"),
    parts=("access_key", "secret_key"),
    injected="",
    make=_make,
    prove=_prove,
    retire=_retire,
    prove_retired=_prove_retired,
)
