"""Cedar's own conformance corpus run against the compiled engine (cedar-policy/cedar-integration-tests, `corpus-tests`).

    run_vectors(folder) -> Agreement              agreed, total, and the first cases that differ

A case agrees when decision, determining policies and erring policies are those that the corpus states. No case is skipped: a case that
cannot be read or evaluated counts as a difference.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import Any

import cedarpy

from vouchgate.policy.compile import Request, compile_policies, evaluate
from vouchgate.policy.load import Source, read
from vouchgate.policy.values import from_cedar_json, uid_from_json
from vouchgate.policy.world import world_from_cedar_json
from vouchgate.vocabulary.errors import InvalidInput

MAX_DIFFERENCES = 20
"""Differences that are kept to be shown."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many requests agreed."""

    agreed: int
    total: int
    left_to_cedar: int
    """Requests on which at least one policy in scope was answered by cedarpy."""
    differences: tuple[str, ...]


def cases(folder: Traversable) -> list[str]:
    """Names of the cases in a corpus folder, sorted."""
    names = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json") and not name.endswith(".entities.json"))


def run_vectors(folder: Traversable, names: Sequence[str] | None = None) -> Agreement:
    """Run the whole corpus, or the named cases of it."""
    agreed = total = left = 0
    differences: list[str] = []
    for name in cases(folder) if names is None else names:
        for same, by_cedar, text in _run_case(folder, name):
            total += 1
            agreed += same
            left += by_cedar
            if not same and len(differences) < MAX_DIFFERENCES:
                differences.append(f"{name}: {text}")
    return Agreement(agreed, total, left, tuple(differences))


def _run_case(folder: Traversable, name: str) -> Iterator[tuple[bool, bool, str]]:
    case = json.loads((folder / f"{name}.json").read_text("utf-8"))
    try:
        source = Source(name, (folder / f"{name}.cedar").read_text("utf-8"))
        policies = read([source], (folder / f"{name}.cedarschema").read_text("utf-8"))
        compiled = compile_policies(policies)
        entities = cedarpy.Entities.from_json_str((folder / f"{name}.entities.json").read_text("utf-8"), policies.schema)
        world = world_from_cedar_json(str(entities))
    except (InvalidInput, ValueError) as error:
        yield from ((False, False, str(error)) for _ in case["requests"])
        return
    for request in case["requests"]:
        try:
            evaluation = evaluate(compiled, _request(request), world)
        except InvalidInput as error:
            yield False, False, f"{request['description']}: {error}"
            continue
        got = (evaluation.cedar_effect, sorted(evaluation.determining), sorted(evaluation.errors))
        stated = (request["decision"], sorted(request["reason"]), sorted(request["errors"]))
        by_cedar = any(policy.by_cedar for policy in evaluation.in_scope)
        yield got == stated, by_cedar, f"{request['description']}: {got} where the corpus states {stated}"


def _request(row: dict[str, Any]) -> Request:
    context = {name: from_cedar_json(value) for name, value in row["context"].items()}
    return Request(uid_from_json(row["principal"]), uid_from_json(row["action"]), uid_from_json(row["resource"]), context)
