"""Bodies of AuthZEN requests read within bounds, and answers written (Authorization API 1.0, sections 5 to 8 and 10.1).

Rules
1. A body is one JSON object (RFC 8259), without two members of one name, nested at most `MAX_DEPTH` deep; else 400 (section 10.1.2).
2. A member that is required and missing, or of another type, is 400; a member that the specification does not know is ignored (section 4).
3. In `evaluations` a top-level member is the default of each one (section 7.1.1): a whole object stands for a whole object, and a `type`, `id`
   or `name` that is missing in it comes from the default. One that is still not whole is answered false by itself (section 7.2.1).
4. A search leaves out the `id` (or the action) that it looks for; where it is there, it is ignored (sections 8.4 to 8.6).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from vouchgate.vocabulary.authzen import MAX_ID, MAX_TYPE, Evaluated, Question, Thing
from vouchgate.vocabulary.errors import InvalidInput

MAX_BODY_BYTES = 256 * 1024
"""Bytes of one request: 256 evaluations of 1 KiB."""
MAX_EVALUATIONS = 256
"""Evaluations of one request: about 10 ms of the decision point."""
MAX_DEPTH = 16
"""Nested objects and arrays; an entity's attribute has two."""
MAX_TOKEN = 4_096
"""Characters of a page token; ours have about 1,500 at most."""
SEMANTICS = ("execute_all", "deny_on_first_deny", "permit_on_first_permit")
_KEY = re.compile(rb'"[ \t\r\n]*:')
_REMEDY = "see the Authorization API 1.0, section 6.1"
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

Kind = Literal["subject", "resource", "action"]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """`evaluations`; a text stands for one that is not whole, and says why."""

    questions: tuple[Question | str, ...]
    semantic: str


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a search."""

    question: Question
    token: str
    limit: int


def read_object(body: bytes) -> dict[str, Any]:
    """Rule 1. Raises `InvalidInput`."""
    try:
        said = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"the body is not JSON: {str(error)[:160]}", remedy=_REMEDY) from None
    if type(said) is not dict:
        raise InvalidInput("the body is not a JSON object", remedy=_REMEDY)
    # a colon after a quote stands after every name, and besides only inside of texts: as many as names means no name is there twice
    if len(_KEY.findall(body)) != _names(said, 0):
        _no_duplicates(body)
    return said


def _names(value: Any, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"the body is nested more than {MAX_DEPTH} deep", remedy="send flatter properties")
    if type(value) is dict:
        count = len(value)
        for one in value.values():
            if type(one) is dict or type(one) is list:
                count += _names(one, depth + 1)
        return count
    count = 0
    for one in value:
        if type(one) is dict or type(one) is list:
            count += _names(one, depth + 1)
    return count


def _no_duplicates(body: bytes) -> None:
    def once(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidInput(f"`{twice[:64]}` is there twice", remedy="send each member once")

    json.loads(body, object_pairs_hook=once)


def read_evaluation(said: Mapping[str, Any]) -> Question:
    """Section 6.1. Raises `InvalidInput`."""
    return Question(
        subject=_thing(said, "subject"),
        action=_name(said),
        action_properties=_object(said["action"], "properties"),
        resource=_thing(said, "resource"),
        context=_object(said, "context"),
        carries=_carries(said),
    )


def read_evaluations(said: Mapping[str, Any]) -> Question | Batch:
    """Section 7.1: without `evaluations`, or with none in it, a single one. Raises `InvalidInput`."""
    listed = said.get("evaluations")
    if listed is None or listed == []:
        return read_evaluation(said)
    if type(listed) is not list or any(type(one) is not dict for one in listed):
        raise InvalidInput("`evaluations` is not an array of objects", remedy="see the Authorization API 1.0, section 7.1")
    if len(listed) > MAX_EVALUATIONS:
        raise InvalidInput(f"there are {len(listed)} evaluations, the bound is {MAX_EVALUATIONS}", remedy="send them in several requests")
    semantic = _object(said, "options").get("evaluations_semantic", SEMANTICS[0])
    if semantic not in SEMANTICS:
        raise InvalidInput("`options.evaluations_semantic` is none", remedy=f"use one of {', '.join(SEMANTICS)}")
    return Batch(questions=tuple([_one_of(said, one) for one in listed]), semantic=semantic)


def _one_of(defaults: Mapping[str, Any], one: Mapping[str, Any]) -> Question | str:
    """Rule 3."""
    merged: dict[str, Any] = {"options": defaults.get("options", {})}
    for name in ("subject", "action", "resource", "context"):
        default, own = defaults.get(name), one.get(name)
        if own is None:
            own = default
        elif name != "context" and type(own) is dict and type(default) is dict:
            own = {**{key: default[key] for key in ("type", "id", "name") if key in default}, **own}
        if own is not None:
            merged[name] = own
    try:
        return read_evaluation(merged)
    except InvalidInput as error:
        return error.reason


def read_search(said: Mapping[str, Any], kind: Kind) -> Search:
    """Sections 8.2.1 and 8.4 to 8.6. Raises `InvalidInput`."""
    page = _object(said, "page")
    # a token of an earlier draft stood in `next_token`
    token, limit = page.get("token", page.get("next_token", "")), page.get("limit", 0)
    if type(token) is not str or len(token) > MAX_TOKEN:
        raise InvalidInput("`page.token` is no token", remedy="give the `next_token` of the page before")
    if type(limit) is not int or limit < 0:
        raise InvalidInput("`page.limit` is no number of results", remedy="give a whole number, not negative")
    question = Question(
        subject=_thing(said, "subject", without_id=kind == "subject"),
        action="" if kind == "action" else _name(said),
        action_properties={} if kind == "action" else _object(said["action"], "properties"),
        resource=_thing(said, "resource", without_id=kind == "resource"),
        context=_object(said, "context"),
        carries=_carries(said),
    )
    return Search(question=question, token=token, limit=limit)


def _object(said: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = said.get(name)
    if found is None:
        return {}
    if type(found) is not dict:
        raise InvalidInput(f"`{name}` is not an object", remedy=_REMEDY)
    return found


def _thing(said: Mapping[str, Any], name: str, *, without_id: bool = False) -> Thing:
    found = said.get(name)
    if type(found) is not dict:
        raise InvalidInput(f"`{name}` is not an object" if name in said else f"`{name}` is missing", remedy=_REMEDY)
    kind = _text(found, "type", name, MAX_TYPE)
    return Thing(type=kind, id="" if without_id else _text(found, "id", name, MAX_ID), properties=_object(found, "properties"))


def _name(said: Mapping[str, Any]) -> str:
    action = said.get("action")
    if type(action) is not dict:
        raise InvalidInput("`action` is not an object" if "action" in said else "`action` is missing", remedy=_REMEDY)
    return _text(action, "name", "action", MAX_TYPE)


def _text(found: Mapping[str, Any], name: str, where: str, most: int) -> str:
    value = found.get(name)
    if type(value) is not str or not 0 < len(value) <= most:
        raise InvalidInput(f"`{where}.{name}` is not a text of 1 to {most} characters", remedy=_REMEDY)
    return value


def _carries(said: Mapping[str, Any]) -> frozenset[str]:
    """Kinds of obligations that the point carries out: `options.obligations`, an extension of ours (section 7.1.2)."""
    listed = _object(said, "options").get("obligations")
    if listed is None:
        return frozenset()
    if type(listed) is not list or any(type(one) is not str for one in listed) or len(listed) > 16:
        raise InvalidInput("`options.obligations` is no list of kinds", remedy="name those that the point carries out")
    return frozenset(listed)


def told(answer: Evaluated) -> dict[str, Any]:
    """Section 6.2, with the context of section 5.5.1; what is empty is left out."""
    made = answer.decision
    context: dict[str, Any] = {"id": made.id, "reason": made.reason}
    if made.remedy:
        context["remedy"] = made.remedy
    if made.missing:
        context["missing"] = [msgspec.to_builtins(one) for one in made.missing]
    if made.obligations:
        context["obligations"] = [msgspec.to_builtins(one) for one in made.obligations]
    if made.effect != made.would_be:
        context["would_be"] = made.would_be
    if answer.status != 200:
        context["error"] = {"status": answer.status, "message": made.reason}
    return {"decision": made.effect == "allow", "context": context}


def not_whole(why: str) -> dict[str, Any]:
    """Rule 3: one of several that cannot be asked."""
    return {"decision": False, "context": {"reason": why, "error": {"status": 400, "message": why}}}


def write(value: Any) -> bytes:
    """JSON."""
    return _encode(value)


def page(kind: Kind, question: Question, results: Sequence[str], token: str) -> dict[str, Any]:
    """Section 8.3."""
    if kind == "action":
        listed = [{"name": name} for name in results]
    else:
        thing = question.subject if kind == "subject" else question.resource
        listed = [{"type": thing.type, "id": name} for name in results]
    return {"results": listed, "page": {"next_token": token, "count": len(listed)}}


def metadata(base: str) -> dict[str, str]:
    """Section 9.1.1; `base` is the decision point's identifier."""
    access = f"{base}/access/v1"
    return {
        "policy_decision_point": base,
        "access_evaluation_endpoint": f"{access}/evaluation",
        "access_evaluations_endpoint": f"{access}/evaluations",
        "search_subject_endpoint": f"{access}/search/subject",
        "search_resource_endpoint": f"{access}/search/resource",
        "search_action_endpoint": f"{access}/search/action",
    }
