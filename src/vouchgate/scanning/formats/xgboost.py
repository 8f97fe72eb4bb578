"""XGBoost models: JSON, UBJSON, and the raw binary format of versions before 2.

Rules are those of ubjson.py, xgboost_model.py and xgboost_binary.py. JSON and UBJSON are the same values, held to the same checks.
"""

from __future__ import annotations

from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, TEXTS, Claim
from vouchgate.scanning.strict_json import acting, strict
from vouchgate.scanning.ubjson import Ubjson
from vouchgate.scanning.verdict import Reading, Refuse
from vouchgate.scanning.xgboost_binary import Binary, looks_binary
from vouchgate.scanning.xgboost_model import REMEDY, check

NAME = "xgboost"
_KEYS = (b"learner", b"version", b"Config", b"Model")
_WIDTHS = {ord("i"): 1, ord("U"): 1, ord("I"): 2, ord("l"): 4, ord("L"): 8}


def recognise(sight: Sight) -> Claim:
    """Its JSON has a `learner` with a booster; its UBJSON begins with one of its keys; its raw format has two names at their place."""
    head = sight.head
    if _ubjson(head):
        return Claim(strength="certain", kind=NAME, because="UBJSON with XGBoost's keys", above=TEXTS)
    if looks_binary(head):
        return Claim(strength="certain", kind=NAME, because="XGBoost's parameters, objective and booster", above=TEXTS)
    value = (
        sight.json
        if head.lstrip(b" \t\r\n\xef\xbb\xbf")[:1] == b"{" and b"gradient_booster" in head + bytes(sight.view[-65_536:])
        else None
    )
    if isinstance(value, dict) and isinstance(value.get("learner"), dict) and "gradient_booster" in value["learner"]:
        return Claim(strength="certain", kind=NAME, because="JSON with a learner and its booster", above=("json", "text"))
    return NOT_MINE


def _ubjson(head: bytes) -> bool:
    if head[:1] != b"{" or len(head) < 12 or head[1] not in _WIDTHS:
        return False
    width = _WIDTHS[head[1]]
    length = int.from_bytes(head[2 : 2 + width], "big")
    return length < 16 and head[2 + width : 2 + width + length] in _KEYS


def read(sight: Sight, scope: Scope) -> Reading:
    """By the one of the three that it is."""
    del scope
    if looks_binary(sight.head):
        return Reading(covered=len(sight), facts={**Binary(sight.view).read(), "encoding": "binary"})
    binary = _ubjson(sight.head)
    model = Ubjson(sight.view, NAME).read() if binary else strict(sight, NAME)
    if isinstance(model, dict) and model.keys() == {"Model", "Config"}:
        model = model["Model"]
    found = acting(model)
    if found:
        raise Refuse(f"{NAME}:acting-key", f"key `{found[0][:100]}`", f"{found[1]}, and no model has such a key", REMEDY)
    return Reading(covered=len(sight), facts={**check(model), "encoding": "ubjson" if binary else "json"})
