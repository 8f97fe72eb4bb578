"""An MLflow model registry in which a version goes live only on evidence: guarded aliases, stages and version tags.

Rules
1. The registry's own methods are guarded, not addresses: whatever way a request came in (REST, ajax, GraphQL, a page), it ends there.
2. To set a guarded mark: nobody writes to the version's artifacts, their digest is computed here, and the control plane lets it be promoted.
   From then on these artifacts are not written to any more, whether or not the mark moves on.
3. To read a guarded alias or stage: the version is one that passed rule 2, and the control plane still lets it be promoted. What was revoked is not
   handed out under a name that says it may be used.
4. Marks are compared without regard to case; one that is not ASCII is always guarded, since databases fold letters in ways of their own.
5. A registry with ways that are not known here ends the server's start.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from vouchgate.integrations.guard_asking import ControlPlane
from vouchgate.integrations.mlflow_gate_artifacts import Artifacts, concern, refusals
from vouchgate.integrations.mlflow_gate_ledger import Ledger, Live
from vouchgate.vocabulary.answers_gates import GateOutcome, GateRequest
from vouchgate.vocabulary.errors import Conflict, InvalidSettings, NotPermitted

GUARDED = frozenset(
    [
        "set_registered_model_alias",
        "get_model_version_by_alias",
        "transition_model_version_stage",
        "get_latest_versions",
        "set_model_version_tag",
        "create_model_version",
        "delete_model_version",
        "delete_registered_model",
        "rename_registered_model",
    ]
)
HARMLESS = frozenset(
    [
        "create_registered_model",
        "update_registered_model",
        "search_registered_models",
        "get_registered_model",
        "set_registered_model_tag",
        "delete_registered_model_tag",
        "update_model_version",
        "get_model_version",
        "get_model_version_download_uri",
        "search_model_versions",
        "delete_model_version_tag",
        "delete_registered_model_alias",
        "copy_model_version",
        "create_prompt",
        "search_prompts",
        "delete_prompt",
        "set_prompt_tag",
        "delete_prompt_tag",
        "get_prompt",
        "create_prompt_version",
        "get_prompt_version",
        "delete_prompt_version",
        "get_prompt_version_by_alias",
        "set_prompt_alias",
        "delete_prompt_alias",
        "search_prompt_versions",
        "link_prompts_to_trace",
        "set_prompt_version_tag",
        "delete_prompt_version_tag",
        "link_prompt_version_to_model",
        "link_prompt_version_to_run",
        "create_webhook",
        "get_webhook",
        "list_webhooks",
        "list_webhooks_by_event",
        "update_webhook",
        "delete_webhook",
        "test_webhook",
        "supports_workspaces",
    ]
)
MAX_HELD = 1_024
"""Allows that are held."""


@dataclass(frozen=True)
class Marks:
    """What is guarded (rule 4): aliases and stages by name, version tags by key and, where one is given, value. `*` stands for every alias."""

    aliases: frozenset[str]
    stages: frozenset[str]
    tags: frozenset[tuple[str, str | None]]

    def alias(self, name: str) -> bool:
        """Whether it is guarded."""
        return "*" in self.aliases or not name.isascii() or _folded(name) in self.aliases

    def stage(self, name: str) -> bool:
        """Whether it is guarded."""
        return not name.isascii() or _folded(name) in self.stages

    def tag(self, key: str, value: str) -> bool:
        """Whether it is guarded."""
        if not self.tags:
            return False
        if not key.isascii():
            return True
        return any(_folded(key) == one and (wanted is None or not value.isascii() or _folded(value) == wanted) for one, wanted in self.tags)


def read_marks(text: str) -> Marks:
    """`alias:champion stage:production tag:status=approved tag:released`, parted by white space. Raises `InvalidSettings`."""
    aliases, stages, tags = set[str](), set[str](), set[tuple[str, str | None]]()
    for word in text.split():
        kind, _, name = word.partition(":")
        if kind not in ("alias", "stage", "tag") or not name or not name.isascii():
            raise InvalidSettings(
                f"`{word[:80]}` names nothing that can be guarded", remedy="write alias:NAME, stage:NAME or tag:KEY[=VALUE]"
            )
        if kind == "tag":
            key, equals, value = name.partition("=")
            tags.add((_folded(key), _folded(value) if equals else None))
        else:
            (aliases if kind == "alias" else stages).add(_folded(name))
    if not (aliases or stages or tags):
        raise InvalidSettings("nothing is guarded", remedy="leave VOUCHGATE_MLFLOW_GUARD away to guard every alias and the stages")
    return Marks(frozenset(aliases), frozenset(stages), frozenset(tags))


class Asker(ControlPlane):
    """The control plane's answers to this gate; an allow is held for as long as it says."""

    def __init__(self, path: Path, *, target: str, purpose: str) -> None:
        super().__init__(path)
        self._target, self._purpose = target, purpose
        self._passed: dict[str, int] = {}
        self._turn = threading.Lock()

    def promote(self, digest: str, subject: str, *, held: bool = False) -> None:
        """Returns, or raises `NotPermitted` with what is missing. `held`: an answer of a moment ago will do."""
        with self._turn:
            if held and self._passed.get(digest, 0) > time.monotonic_ns():
                return
        asked = time.monotonic_ns()
        request = GateRequest(digest=digest, act="promote", subject=subject[:512], target=self._target, purpose=self._purpose)
        said = self._post(GateOutcome, "/api/v1/gates", request)
        if said.allowed is not True or said.digest != digest:
            raise _refused(said, digest, subject)
        with self._turn:
            if len(self._passed) >= MAX_HELD:
                self._passed.clear()
            self._passed[digest] = asked + said.hold_ms * 1_000_000


def _refused(said: GateOutcome, digest: str, subject: str) -> NotPermitted:
    missing = ", ".join(f"`{one.predicate}` ({one.why})" for one in said.missing)
    remedy = said.remedy or next((one.remedy for one in said.missing if one.remedy), "")
    why = f"vouchgate why {said.decision_id}" if said.decision_id else "vouchgate why"
    return NotPermitted(
        f"{subject} ({digest}) is refused: {said.reason}{f'; missing {missing}' if missing else ''}",
        remedy=remedy or f"see `{why}`; content comes in with `vouchgate import FOLDER`",
    )


class Registry:
    """Guards the class of one registry store."""

    def __init__(self, marks: Marks, artifacts: Artifacts, ledger: Ledger, asker: Asker) -> None:
        self._marks, self._artifacts, self._ledger, self._asker = marks, artifacts, ledger, asker

    def guard(self, kind: type) -> None:
        """Every store of this class, from here on. Raises `InvalidSettings` (rule 5)."""
        check_known_ways(kind)
        for name in GUARDED:
            setattr(kind, name, self._wrapped(getattr(kind, name), getattr(self, f"_{name}")))

    def _wrapped(self, way: Callable[..., Any], guard: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(way)
        def guarded(store: Any, *args: Any, **kwargs: Any) -> Any:
            with refusals():
                return guard(store, functools.partial(way, store), *args, **kwargs)

        return guarded

    # -- setting

    def _set_registered_model_alias(self, store: Any, way: Callable[..., Any], name: str, alias: str, version: str) -> Any:
        if not self._marks.alias(alias):
            return way(name, alias, version)
        return self._goes_live(store, name, version, f"alias {alias}", lambda: way(name, alias, version))

    def _transition_model_version_stage(
        self, store: Any, way: Callable[..., Any], name: str, version: str, stage: str, archive_existing_versions: bool
    ) -> Any:
        if not self._marks.stage(stage):
            return way(name, version, stage, archive_existing_versions)
        return self._goes_live(store, name, version, f"stage {stage}", lambda: way(name, version, stage, archive_existing_versions))

    def _set_model_version_tag(self, store: Any, way: Callable[..., Any], name: str, version: str, tag: Any) -> Any:
        if not self._marks.tag(str(tag.key), str(tag.value)):
            return way(name, version, tag)
        return self._goes_live(store, name, version, f"tag {tag.key}={tag.value}", lambda: way(name, version, tag))

    def _create_model_version(self, store: Any, way: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        tags = kwargs.get("tags") if "tags" in kwargs else (args[3] if len(args) > 3 else None)
        for tag in tags or ():
            if self._marks.tag(str(tag.key), str(tag.value)):
                raise NotPermitted(
                    f"a new version cannot have the tag `{tag.key}` from the beginning", remedy="create it, then set the tag"
                )
        return way(*args, **kwargs)

    def _goes_live(self, store: Any, name: str, version: str, mark: str, act: Callable[[], Any]) -> Any:
        """Rule 2."""
        known = store.get_model_version(name, version)
        uri = store.get_model_version_download_uri(name, version)
        subject = f"models:/{known.name}/{known.version} {mark}"
        location = self._artifacts.location(uri)
        with self._ledger.say("going-live", location):
            if any(concern(one, location) for one in self._ledger.said("writing")):
                raise Conflict(f"{subject}: its artifacts are being written", remedy="try again when the upload is done")
            digest = self._artifacts.digest(uri).text
            self._asker.promote(digest, subject)
            self._ledger.add(Live(name=str(known.name), version=str(known.version), digest=digest, location=location))
            return act()

    # -- reading

    def _get_model_version_by_alias(self, store: Any, way: Callable[..., Any], name: str, alias: str) -> Any:
        found = way(name, alias)
        if self._marks.alias(alias):
            self._still(found, f"alias {alias}")
        return found

    def _get_latest_versions(self, store: Any, way: Callable[..., Any], name: str, stages: Any = None) -> Any:
        found = way(name, stages)
        if stages and any(self._marks.stage(str(one)) for one in stages):
            for one in found:
                if self._marks.stage(str(one.current_stage)):
                    self._still(one, f"stage {one.current_stage}")
        return found

    def _still(self, found: Any, mark: str) -> None:
        """Rule 3."""
        subject = f"models:/{found.name}/{found.version} {mark}"
        record = self._ledger.of(str(found.name), str(found.version))
        if record is None:
            raise NotPermitted(f"{subject} was set past the gate", remedy="set it again, so that the version's artifacts are looked at")
        self._asker.promote(record.digest, f"{subject} is read", held=True)

    # -- what a record follows

    def _delete_model_version(self, store: Any, way: Callable[..., Any], name: str, version: str) -> Any:
        known = store.get_model_version(name, version)
        done = way(name, version)
        self._ledger.drop(str(known.name), str(known.version))
        return done

    def _delete_registered_model(self, store: Any, way: Callable[..., Any], name: str) -> Any:
        known = store.get_registered_model(name)
        done = way(name)
        self._ledger.drop(str(known.name))
        return done

    def _rename_registered_model(self, store: Any, way: Callable[..., Any], name: str, new_name: str) -> Any:
        known = str(store.get_registered_model(name).name)
        done = way(name, new_name)
        moved = [msgspec.structs.replace(one, name=str(done.name)) for one in self._ledger.live() if one.name == known]
        self._ledger.drop(known)
        for one in moved:
            self._ledger.add(one)
        return done


def check_known_ways(kind: type) -> None:
    """Rule 5. Raises `InvalidSettings`."""
    from mlflow.store.model_registry.abstract_store import AbstractStore

    ways = {name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))}
    asked = {name for name in vars(AbstractStore) if not name.startswith("_")}
    unknown, lost = sorted((asked & ways) - GUARDED - HARMLESS), sorted(GUARDED - ways)
    if unknown or lost:
        raise InvalidSettings(
            f"this MLflow's registry has ways that the gate does not know, or lacks some: {', '.join(unknown + lost)[:300]}",
            remedy="use a version of MLflow that docs/gates.md names, or a newer vouchgate",
        )


def _folded(text: str) -> str:
    return text.strip().casefold()
