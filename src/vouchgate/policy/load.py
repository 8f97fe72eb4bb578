"""Policy text -> `PolicySet`: read within bounds, and validated against the schema.

    read(sources, schema) -> PolicySet           reads without validating, for conformance vectors and `check`
    problems(policy_set) -> list                 what Cedar's strict validator says

What the product decides on comes from `catalog.load`, which reads, validates and refuses hazards.

Rules
1. Bounds come first: bytes, policies, bracket depth; Cedar's own parser never sees text beyond them.
2. Every policy carries a unique `@id` that is safe to print; decisions, reasons and findings name it. Templates are refused.
3. Cedar's strict validator must pass (so an optional attribute is guarded by `has`).
4. The digest is SHA-256 over the schema and each policy in Cedar's JSON form, in order; layout and comments of policies do not change it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cedarpy
from cedarpy import pst

from vouchgate.policy.values import Uid
from vouchgate.vocabulary.errors import InvalidInput

MAX_SOURCE_BYTES = 1024 * 1024
"""Bytes of one policy file or schema; 10,000 policies of 100 bytes."""
MAX_POLICIES = 10_000
"""Policies of one set; beyond it a person reads none of them."""
MAX_POLICY_BYTES = 64 * 1024
"""Bytes of one policy; 800 names of 80 bytes in a set."""
MAX_POLICY_OPERATORS = 256
"""Operators of one policy: Cedar's parser recurses on chains, and one of 40,000 ends the process."""
MAX_POLICY_COMMAS = 2_000
"""Elements of the sets of one policy; the validator needs 40 ms for as many."""
MAX_BRACKET_DEPTH = 64
"""Nested brackets; Cedar's typed tree stops at 100 levels."""
MAX_KEPT = 8
"""Files that are kept as read: of a set that is edited most stay the same, the base pack always."""
MAX_LISTED = 5
"""Problems named in one error."""


class InvalidPolicy(InvalidInput):
    """Policies or schema that cannot be loaded."""

    code = "invalid-policy"


@dataclass(frozen=True, slots=True)
class Source:
    """Policy text and the name under which errors speak of it."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """One policy as read."""

    id: str
    """Its `@id`; in `read`, Cedar's positional id where it has none."""
    raw_id: str
    effect: str
    source: str
    line: int
    text: str
    tree: pst.Template | None
    """None where Cedar's typed tree cannot express it; it is then left to cedarpy."""
    json: Mapping[str, Any]
    """Cedar's JSON form of this policy alone."""

    @property
    def where(self) -> str:
        """`policy `a` (file.cedar, line 3)`."""
        return f"policy `{self.id}` ({self.source}, line {self.line})"


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Policies and schema that were read together."""

    policies: tuple[Policy, ...]
    text: str
    schema_text: str
    digest: str
    """`sha256:<hex>` (rule 4)."""
    actions: Mapping[Uid, frozenset[Uid]]
    """Every action of the schema -> itself and its groups."""
    schema: Any = None
    """cedarpy's handle; None without a schema."""

    def policy(self, policy_id: str) -> Policy | None:
        """The policy of this id."""
        return next((policy for policy in self.policies if policy.id == policy_id), None)


_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_OPERATOR = re.compile(r"&&|\|\||::|[.+*\-@]|[<>=!]=?|\b(?:if|when|unless|has|in|is|like)\b")
_TOKEN = re.compile(r'//[^\r\n]*|"(?:\\.|[^"\\])*"|[()\[\]{};]|[^()\[\]{};"/]+|/', re.DOTALL)


def split(source: Source, *, operators_bound: int = MAX_POLICY_OPERATORS) -> list[tuple[int, str]]:
    """`(line, text)` of each statement in the text. Raises `InvalidPolicy` beyond the bounds."""
    size = len(source.text.encode("utf-8", "replace"))
    if size > MAX_SOURCE_BYTES:
        raise InvalidPolicy(f"`{source.name}` has {size} bytes, the bound is {MAX_SOURCE_BYTES}", remedy="split it into several files")
    statements: list[tuple[int, str]] = []
    depth, start, line, first_line, operators, commas = 0, None, 1, 1, 0, 0
    for match in _TOKEN.finditer(source.text):
        part = match[0]
        quoted = part[0] == '"' or part.startswith("//")
        if start is None and not part.startswith("//") and part.strip():
            lead = len(part) - len(part.lstrip())
            start, first_line, operators, commas = match.start() + lead, line + part[:lead].count("\n"), 0, 0
        line += part.count("\n")
        if not quoted:
            operators += len(_OPERATOR.findall(part))
            commas += part.count(",")
        if part in "([{":
            depth += 1
        elif part in ")]}":
            depth -= 1
        if start is not None and (
            depth > MAX_BRACKET_DEPTH or operators > operators_bound or commas > MAX_POLICY_COMMAS or match.end() - start > MAX_POLICY_BYTES
        ):
            raise InvalidPolicy(
                f"`{source.name}`, line {first_line}: the policy is too large (at most {MAX_POLICY_BYTES} bytes, "
                f"{operators_bound} operators, {MAX_BRACKET_DEPTH} nested brackets)",
                remedy="divide it, or compare with a set: `[...].contains(x)`",
            )
        if part == ";" and depth == 0 and start is not None:
            statements.append((first_line, source.text[start : match.end()]))
            start = None
    if len(statements) > MAX_POLICIES:
        raise InvalidPolicy(f"`{source.name}` has {len(statements)} policies, the bound is {MAX_POLICIES}", remedy="use groups")
    return statements


def _parse_error(source: Source, error: Exception) -> InvalidPolicy:
    for line, text in split(source):
        try:
            cedarpy.PolicySet.from_str(text)
        except ValueError as cause:
            return InvalidPolicy(
                f"`{source.name}`, line {line}: the policy cannot be read: {cause}", remedy="correct the policy at this line"
            )
    return InvalidPolicy(f"`{source.name}` cannot be read: {error}", remedy="check that the last policy ends with `;`")


def _trees(text: str, document: Mapping[str, Any]) -> dict[str, pst.Template | None]:
    try:
        return dict(cedarpy.policies_to_pst(text).static_policies)
    except ValueError:
        return {raw_id: _tree_alone(body) for raw_id, body in document["staticPolicies"].items()}


def _tree_alone(body: Any) -> pst.Template | None:
    try:
        alone = {"staticPolicies": {"alone": body}, "templates": {}, "templateLinks": []}
        return cedarpy.PolicySet.from_json_str(json.dumps(alone)).to_pst().static_policies["alone"]
    except ValueError:
        return None


def read_source(source: Source) -> list[Policy]:
    """The policies of one source, in order. Raises `InvalidPolicy`."""
    statements = split(source)
    try:
        document = json.loads(cedarpy.policies_to_json_str(source.text))
    except (ValueError, RecursionError) as error:
        raise _parse_error(source, error) from None
    if document.get("templates"):
        raise InvalidPolicy(f"`{source.name}` holds a template (`?principal` or `?resource`)", remedy="write a policy for a group instead")
    bodies, trees = document["staticPolicies"], _trees(source.text, document)
    if len(statements) != len(bodies):
        raise InvalidPolicy(f"`{source.name}` cannot be divided into policies", remedy="end every policy with `;`")
    policies = []
    for number, (line, text) in enumerate(statements):
        raw_id = f"policy{number}"
        body = bodies[raw_id]
        name = body.get("annotations", {}).get("id") or raw_id
        policies.append(Policy(name, raw_id, body["effect"], source.name, line, text, trees[raw_id], body))
    return policies


@functools.lru_cache(maxsize=8)
def _schema(text: str) -> Any:
    if len(text.encode("utf-8", "replace")) > MAX_SOURCE_BYTES:
        raise InvalidPolicy(f"the schema has more than {MAX_SOURCE_BYTES} bytes", remedy="remove what is not used")
    try:
        return cedarpy.Schema.from_str(text)
    except ValueError as error:
        raise InvalidPolicy(f"the schema cannot be read: {error}", remedy="correct the schema; see the Cedar schema grammar") from None


@functools.lru_cache(maxsize=8)
def _actions(schema: Any) -> Mapping[Uid, frozenset[Uid]]:
    parents = {
        Uid(row["uid"]["type"], row["uid"]["id"]): [Uid(parent["type"], parent["id"]) for parent in row["parents"]]
        for row in json.loads(str(cedarpy.Entities.from_json_str("[]", schema)))
    }

    def climb(uid: Uid) -> frozenset[Uid]:
        return frozenset((uid,)).union(*(climb(parent) for parent in parents.get(uid, ())))

    return {uid: climb(uid) for uid in parents}


def _digest(schema_text: str, policies: Sequence[Policy]) -> str:
    bodies = [[policy.id, policy.json] for policy in policies]
    canonical = json.dumps([schema_text.strip(), bodies], sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(b"vouchgate/policy/v1\0" + canonical.encode()).hexdigest()


@functools.lru_cache(maxsize=MAX_KEPT)
def _kept(source: Source) -> tuple[Policy, ...]:
    return tuple(read_source(source))


def read(sources: Sequence[Source], schema_text: str = "") -> PolicySet:
    """Read without validating. Raises `InvalidPolicy`."""
    schema = _schema(schema_text) if schema_text else None
    policies = tuple(policy for source in sources for policy in _kept(source))
    text = "\n".join(source.text for source in sources)
    return PolicySet(
        policies=policies,
        text=text,
        schema_text=schema_text,
        digest=_digest(schema_text, policies),
        actions=_actions(schema) if schema else {},
        schema=schema,
    )


def validate_names(policies: Sequence[Policy]) -> None:
    """Rule 2. Raises `InvalidPolicy`."""
    seen: dict[str, Policy] = {}
    for policy in policies:
        if policy.id == policy.raw_id:
            raise InvalidPolicy(f"the {policy.where} has no name", remedy='write @id("a-name-of-its-own") before it')
        if not _NAME.fullmatch(policy.id):
            where = f"`{policy.source}`, line {policy.line}"
            raise InvalidPolicy(
                f"{where}: the name of the policy is not one", remedy="use at most 64 lower-case letters, digits, `.`, `_` and `-`"
            )
        if policy.id in seen:
            raise InvalidPolicy(f"the {policy.where} has the name of {seen[policy.id].where}", remedy="give each policy a name of its own")
        seen[policy.id] = policy


def problems(policies: PolicySet) -> list[tuple[Policy | None, str]]:
    """What Cedar's strict validator says, by policy."""
    result = cedarpy.validate_policies(policies.text, policies.schema)
    if result.validation_passed:
        return []
    by_number = {f"policy{number}": policy for number, policy in enumerate(policies.policies)}
    found = dict.fromkeys((by_number.get(error.policy_id), _plain(error.error)) for error in result.errors)
    return list(found) or [(None, "Cedar's validator does not accept the set")]


def _plain(problem: str) -> str:
    """The validator's message without positional id, and once for all actions."""
    return re.sub(r" for Action::\"[^\"]*\"$", "", re.sub(r"^for policy `policy[0-9]+`, ", "", problem))


def validate(policies: PolicySet) -> None:
    """Rule 2 and Cedar's own validation. Raises `InvalidPolicy`."""
    validate_names(policies.policies)
    found = problems(policies)
    if found:
        told = "; ".join(f"{policy.where if policy else 'the set'}: {text}" for policy, text in found[:MAX_LISTED])
        raise InvalidPolicy(told, remedy=remedy_for(found[0][1]))


def remedy_for(problem: str) -> str:
    """What to do about a validator's message."""
    optional = re.search(r"optional attribute `([^`]+)`(?: on entity type `([^`]+)`| in context)?", problem)
    if optional:
        base = "context" if "context" in problem else "resource"
        return f"guard it: write `{base} has {optional[1]} && ...` before it is read"
    if "not found" in problem or "unrecognized" in problem:
        return "use a name from the schema; `vouchgate policy check` lists them"
    return "change the policy so that it fits the schema, then run `vouchgate policy check`"
