"""Cedar's conformance vectors run against the compiled engine (cedar-policy/cedar-integration-tests, `corpus-tests` and `tests`).

    run_vectors(folder, above=None, tell=None) -> Agreement     agreed, total, and the first requests that differ
    find_cases(folder) -> list[Case]                            the case files below a folder, in order

A case is a JSON object `{policies, entities, schema, shouldValidate, requests}`; the first three are names of files, or the content itself.

Rules
1. A request agrees when decision, determining policies and erring policies are those that the case states. None is skipped: what cannot be
   read or evaluated counts as a difference, and a case without readable requests counts as one.
2. A name is looked for beside the case, then in each folder above it up to `above`, then with its first folders left out; never outside.
3. What the compiled engine does not take (templates, chains beyond its bound) is answered by cedarpy and counted in `left_to_cedar`. So is a
   context that only the schema can type, provided that both engines agree on the context as it is written.
4. `shouldValidate` is compared with Cedar's strict validator and counted by itself.
5. JSON files that are no cases and that no case names are counted, so that a folder of another form is noticed.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import Any

import cedarpy

from vouchgate.policy.compile import CompiledPolicies, Request, ask_cedar, compile_policies, evaluate
from vouchgate.policy.load import PolicySet, Source, read, split
from vouchgate.policy.values import Uid, from_cedar_json, uid_from_json
from vouchgate.policy.world import World, world_from_cedar_json
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, NotFound

MAX_DIFFERENCES = 20
"""Differences that are kept to be shown."""
MAX_FILES = 1_000_000
"""Files below one folder; Cedar's whole corpus has 32,000."""
MAX_FOLDERS_DEEP = 8
"""Folders in folders."""
MAX_CASE_BYTES = 16 * 1024 * 1024
"""Bytes of one file of a case; the largest of Cedar's own has 1 MiB."""
MAX_FALLBACK_OPERATORS = 2_000
"""Operators of a policy that is given to cedarpy alone; its parser ends the process on chains of 40,000."""
MAX_SHOWN = 400
"""Characters of one difference."""
UNSPECIFIED = "__cedar::Unspecified"
"""Type of a principal, action or resource that a case leaves out: an entity that nothing is known of."""
_UID_TEXT = re.compile(r'\s*([A-Za-z_][\w:]*)::("(?:\\.|[^"\\])*")\s*', re.DOTALL)

Answer = tuple[str, list[str], list[str]]
"""Decision, determining policies, erring policies."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case file below the folder."""

    name: str
    """Path below the folder, without `.json`."""
    at: tuple[str, ...]
    """The folders that it stands in."""
    document: Any
    """The JSON object; text where the file cannot be read: why."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many requests agreed."""

    agreed: int
    total: int
    left_to_cedar: int
    """Requests on which at least one policy in scope was answered by cedarpy."""
    differences: tuple[str, ...]
    """The first ones; `total - agreed` says how many there are."""
    cases: int = 0
    validated: int = 0
    """Cases whose `shouldValidate` is what the validator says."""
    validations: int = 0
    """Cases that state `shouldValidate`."""
    validation_differences: tuple[str, ...] = ()
    other_files: int = 0
    """JSON files that are neither cases nor named by one."""


class _Tree:
    """The files below a folder, read once by path."""

    def __init__(self, folder: Traversable, above: Traversable | None) -> None:
        self.folder, self.above = folder, above
        self.files: dict[tuple[str, ...], Traversable] = {}
        self._walk(folder, ())

    def _walk(self, folder: Traversable, at: tuple[str, ...]) -> None:
        if len(at) > MAX_FOLDERS_DEEP:
            raise LimitExceeded(f"folders are more than {MAX_FOLDERS_DEEP} deep", remedy="name the folder that holds the cases")
        for entry in folder.iterdir():
            if entry.is_dir():
                self._walk(entry, (*at, entry.name))
            elif entry.is_file():
                self.files[*at, entry.name] = entry
                if len(self.files) > MAX_FILES:
                    raise LimitExceeded(f"there are more than {MAX_FILES} files", remedy="name the folder that holds the cases")

    def named(self, name: str, at: tuple[str, ...]) -> Traversable:
        """Rule 2. Raises `NotFound`."""
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if not parts or ".." in parts or name.startswith("/"):
            raise NotFound(f"`{name[:120]}` is no name of a file below the folder", remedy="name it from the folder")
        for depth in range(len(at), -1, -1):
            if (*at[:depth], *parts) in self.files:
                return self.files[(*at[:depth], *parts)]
        if self.above is not None and (found := self.above.joinpath(*parts)).is_file():
            return found
        for left_out in range(1, len(parts)):
            for depth in range(len(at), -1, -1):
                if (*at[:depth], *parts[left_out:]) in self.files:
                    return self.files[(*at[:depth], *parts[left_out:])]
        raise NotFound(f"there is no file `{name[:120]}`", remedy="unpack the whole folder")


def _text(file: Traversable) -> str:
    with file.open("rb") as opened:
        data: bytes = opened.read(MAX_CASE_BYTES + 1)
    if len(data) > MAX_CASE_BYTES:
        raise InvalidInput(f"`{file.name}` is over the bound of {MAX_CASE_BYTES} bytes", remedy="divide it")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"`{file.name}` is no UTF-8 text: {error.reason}", remedy="write it in UTF-8") from None


def _cases(tree: _Tree) -> tuple[list[Case], int]:
    found, named, others = [], set[str](), []
    for path in sorted(path for path in tree.files if path[-1].endswith(".json") and not path[-1].endswith(".entities.json")):
        name = "/".join(path).removesuffix(".json")
        try:
            document = json.loads(_text(tree.files[path]))
        except (ValueError, RecursionError, InvalidInput) as error:
            found.append(Case(name, path[:-1], f"the case cannot be read: {error}"))
            continue
        if isinstance(document, dict) and "policies" in document and ("requests" in document or "queries" in document):
            found.append(Case(name, path[:-1], document))
            named |= {one.rpartition("/")[2] for one in map(document.get, ("policies", "entities", "schema")) if isinstance(one, str)}
        else:
            others.append(path[-1])
    readable = [case for case in found if isinstance(case.document, dict) or f"{case.name}.json".rpartition("/")[2] not in named]
    return readable, sum(other not in named for other in others)


def find_cases(folder: Traversable) -> list[Case]:
    """The case files below a folder, sorted by path. Raises `LimitExceeded`."""
    return _cases(_Tree(folder, None))[0]


def run_vectors(
    folder: Traversable,
    names: Sequence[str] | None = None,
    *,
    above: Traversable | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> Agreement:
    """Run every case below the folder, or the named ones. `tell(done, of)` hears how many cases are done. Raises `NotFound` without any."""
    tree = _Tree(folder, above)
    cases, others = _cases(tree)
    if names is not None:
        cases = [case for case in cases if case.name in frozenset(names)]
    if not cases:
        raise NotFound(
            f"there are no cases in this folder ({len(tree.files)} files)",
            remedy="name a folder of `{policies, entities, schema, shouldValidate, requests}` files, unpacked",
        )
    agreed = total = left = validated = validations = 0
    differences: list[str] = []
    invalid: list[str] = []
    for number, case in enumerate(cases):
        for same, by_cedar, text in _run_case(tree, case):
            total += 1
            agreed += same
            left += by_cedar
            if not same and len(differences) < MAX_DIFFERENCES:
                differences.append(f"{case.name}: {text}"[:MAX_SHOWN])
        said = _validates(tree, case)
        if said is not None:
            validations += 1
            validated += not said
            if said and len(invalid) < MAX_DIFFERENCES:
                invalid.append(f"{case.name}: {said}"[:MAX_SHOWN])
        if tell is not None:
            tell(number + 1, len(cases))
    return Agreement(
        agreed, total, left, tuple(differences), len(cases), validated, validations, tuple(invalid), others if names is None else 0
    )


def _run_case(tree: _Tree, case: Case) -> Iterator[tuple[bool, bool, str]]:
    """Agreement, whether cedarpy had a part in it, and the difference; for each request."""
    document = case.document
    requests = document.get("requests", document.get("queries")) if isinstance(document, dict) else None
    if not isinstance(requests, list) or not requests:
        yield False, False, document if isinstance(document, str) else "the case holds no list of requests"
        return
    try:
        engine = _Engine(tree, case)
    except (InvalidInput, NotFound, ValueError, RecursionError) as error:
        yield from ((False, False, str(error)) for _ in requests)
        return
    for number, row in enumerate(requests):
        described = str(row.get("description") or f"request {number}") if isinstance(row, dict) else f"request {number}"
        try:
            stated, request = _stated(row), _request(row)
            got, by_cedar = engine.answer(request, row, stated)
        except (InvalidInput, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            yield False, False, f"{described}: {error or type(error).__name__}"
            continue
        yield got == stated, by_cedar, f"{described}: {got} where the case states {stated}"


class _Engine:
    """Policies, schema and entities of one case."""

    def __init__(self, tree: _Tree, case: Case) -> None:
        document = case.document
        self.text, self.names = _policies(tree, case)
        source = Source(case.name, self.text)
        split(source, operators_bound=MAX_FALLBACK_OPERATORS)
        self.schema = _schema(tree, case)
        entities = cedarpy.Entities.from_json_str(_given(tree, case, document["entities"]), self.schema)
        self.world: World = world_from_cedar_json(str(entities))
        self.compiled: CompiledPolicies | None = None
        try:
            self.compiled = compile_policies(_positional(read([source]), self.names, self.schema))
        except (InvalidInput, ValueError):
            self.handle = cedarpy.PolicySet.from_str(self.text)
        else:
            self.handle = self.compiled.cedar_handle

    def answer(self, request: Request, row: dict[str, Any], stated: Answer) -> tuple[Answer, bool]:
        """What is decided, and whether cedarpy had a part in it (rule 3)."""
        if self.compiled is None:
            return self._by_cedar(row, None), True
        found = evaluate(self.compiled, request, self.world)
        got = (found.cedar_effect, sorted(found.determining), sorted(found.errors))
        if got == stated:
            return got, any(policy.by_cedar for policy in found.in_scope)
        typed = self._by_cedar(row, self.schema)
        plain = self._read(ask_cedar(self.handle, request, self.world, self.schema))
        return (typed, True) if typed == stated and plain == got else (got, False)

    def _by_cedar(self, row: dict[str, Any], schema: Any) -> Answer:
        entities = self.world.cedar_entities(self.schema)
        question = {side: _uid(row.get(side))._asdict() for side in ("principal", "action", "resource")}
        return self._read(cedarpy.is_authorized({**question, "context": row.get("context") or {}}, self.handle, entities, schema))

    def _read(self, answer: Any) -> Answer:
        if answer.decision == cedarpy.Decision.NoDecision:
            raise InvalidInput(f"cedar gives no decision: {answer.diagnostics.errors[:1]}", remedy="correct the request")
        decided = "allow" if answer.decision == cedarpy.Decision.Allow else "deny"
        erring = {found for text in answer.diagnostics.errors for found in re.findall(r"policy `([^`]*)`", text)[:1]}
        return decided, sorted(map(self._named, answer.diagnostics.reasons)), sorted(map(self._named, erring))

    def _named(self, raw: str) -> str:
        return self.names.get(raw, raw)


def _positional(policies: PolicySet, names: dict[str, str], schema: Any) -> PolicySet:
    """Cases name policies by their place, or by their key in Cedar's JSON form; never by `@id`."""
    renamed = tuple(dataclasses.replace(one, id=names.get(one.raw_id, one.raw_id)) for one in policies.policies)
    return dataclasses.replace(policies, policies=renamed, schema=schema, actions=_actions_of(schema))


def _actions_of(schema: Any) -> dict[Uid, frozenset[Uid]]:
    if schema is None:
        return {}
    world = world_from_cedar_json(str(cedarpy.Entities.from_json_str("[]", schema)))
    return {uid: world.up[uid] for uid in world.entities}


def _given(tree: _Tree, case: Case, value: Any) -> str:
    """The text of a file that is named, or of what stands in its place."""
    if isinstance(value, str):
        return value if "\n" in value or value.lstrip()[:1] in ("[", "{") else _text(tree.named(value, case.at))
    return json.dumps(value)


def _policies(tree: _Tree, case: Case) -> tuple[str, dict[str, str]]:
    """Cedar text, and the names of its policies by place."""
    value = case.document["policies"]
    whole = isinstance(value, str) and re.search(r"\b(?:permit|forbid)\s*\(", value) is not None
    text = value if whole else _given(tree, case, value)
    if case.document.get("policyFormat") != "json" and not text.lstrip().startswith("{"):
        return text, {}
    document = json.loads(text)
    bodies = document.get("staticPolicies", {})
    if document.get("templates") or document.get("templateLinks"):
        raise InvalidInput("the policies hold templates in Cedar's JSON form", remedy="write them as static policies")
    texts = [
        cedarpy.policies_from_json_str(json.dumps({"staticPolicies": {"alone": body}, "templates": {}, "templateLinks": []}))
        for body in bodies.values()
    ]
    return "\n".join(texts), {f"policy{number}": name for number, name in enumerate(bodies)}


def _schema(tree: _Tree, case: Case) -> Any:
    """Cedar's handle; None where the case names no schema."""
    value = case.document.get("schema")
    if value is None or value == "":
        return None
    whole = isinstance(value, str) and re.search(r"\b(?:entity|action)\b[^.]*[;{]", value) is not None
    text = value if whole else _given(tree, case, value)
    as_json = case.document.get("schemaFormat") == "json" or text.lstrip()[:1] == "{"
    return cedarpy.Schema.from_json_str(text) if as_json else cedarpy.Schema.from_str(text)


def _validates(tree: _Tree, case: Case) -> str | None:
    """Rule 4: None where nothing is stated, empty where it agrees, else the difference."""
    document = case.document
    if not isinstance(document, dict) or not isinstance(document.get("shouldValidate"), bool):
        return None
    try:
        text, _ = _policies(tree, case)
        split(Source(case.name, text), operators_bound=MAX_FALLBACK_OPERATORS)
        result = cedarpy.validate_policies(text, _schema(tree, case))
    except (InvalidInput, NotFound, ValueError, TypeError, KeyError, RecursionError) as error:
        return f"cannot be validated: {error}"
    if result.validation_passed == document["shouldValidate"]:
        return ""
    said = "; ".join(str(error) for error in result.errors[:1])
    return f"the case states shouldValidate {document['shouldValidate']}, the validator says {result.validation_passed} {said}".rstrip()


def _stated(row: dict[str, Any]) -> Answer:
    reason = row["reason"] if "reason" in row else row["reasons"]
    decision = str(row["decision"]).lower()
    if decision not in ("allow", "deny"):
        raise InvalidInput(f"`{decision[:40]}` is not a decision", remedy="write allow or deny")
    return decision, sorted(map(str, reason)), sorted(map(str, row["errors"]))


def _request(row: dict[str, Any]) -> Request:
    context = {name: from_cedar_json(value) for name, value in (row.get("context") or {}).items()}
    return Request(_uid(row.get("principal")), _uid(row.get("action")), _uid(row.get("resource")), context)


def _uid(value: Any) -> Uid:
    if value is None:
        return Uid(UNSPECIFIED, "")
    if isinstance(value, str):
        found = _UID_TEXT.fullmatch(value)
        if found is None:
            raise InvalidInput(f"`{value[:80]}` names no entity", remedy='write it as `Type::"id"`, or as type and id')
        return Uid(found[1], str(json.loads(found[2])))
    return uid_from_json(value)
