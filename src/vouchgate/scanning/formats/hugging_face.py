"""Hugging Face repositories: their JSON configurations, and the folder as one artifact (transformers, diffusers, peft, sentence-transformers).

Rules
1. A configuration is strict JSON without keys that name code (hf_config.py), on its own as in a folder.
2. In a folder a name may only tighten: what its loaders take for JSON, safetensors or a template must be that, and is held to its rules.
3. Every shard that an index names is there, and is of the format that its name says.
4. `.git` holds scripts, history and objects that nobody loads from and a checkout runs hooks of: it is no part of a model.
5. A Python file is code by design, whoever would load it (its own reader says so); files of weights are read by their formats.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from vouchgate.scanning import hf_config, jinja
from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.sight import NO_JSON, Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim, Folder
from vouchgate.scanning.strict_json import strict
from vouchgate.scanning.verdict import Reading, Reason

NAME = "hugging-face"
REMEDY = "download the repository again with `huggingface_hub.snapshot_download`, and leave out what no loader needs"
_ENTRANCES = frozenset((
    "config.json", "tokenizer_config.json", "model_index.json", "modules.json", "adapter_config.json", "tokenizer.json",
    "preprocessor_config.json", "generation_config.json", "processor_config.json", "special_tokens_map.json",
    "config_sentence_transformers.json", "model.safetensors.index.json", "pytorch_model.bin.index.json",
))  # fmt: skip
_OTHERS = frozenset(("MLmodel", "saved_model.pb", "model_config.yaml", "MANIFEST.json"))
"""Files that make a folder another artifact, whatever else lies in it."""
_SENTENCE_KEYS = {"idx", "name", "path", "type"}
_MUST_BE = {".safetensors": "safetensors", ".gguf": "gguf", ".onnx": "onnx"}
MAX_READ_FILES = 2_000
"""Configurations of one folder read for rules 1 and 3; a diffusion pipeline has about 20."""


def recognise(sight: Sight) -> Claim:
    """A JSON object with a key that only these libraries write, or their list of modules."""
    value = sight.json
    if isinstance(value, dict) and hf_config.marked(value):
        return Claim(strength="certain", kind=NAME, because="a configuration of a Hugging Face library", above=("json", "text"))
    if isinstance(value, list) and value and isinstance(value[0], dict) and value[0].keys() >= _SENTENCE_KEYS:
        return Claim(strength="certain", kind=NAME, because="a list of sentence-transformers modules", above=("json", "text"))
    return NOT_MINE


def read(sight: Sight, scope: Scope) -> Reading:
    """One configuration (rule 1)."""
    del scope
    value = strict(sight, NAME)
    reasons = hf_config.check(value, NAME)
    facts = {"keys": len(value), "model_type": shown(str(value.get("model_type", "")))[:80]} if isinstance(value, dict) else {}
    return Reading(covered=len(sight), reasons=reasons, facts=facts)


def recognise_folder(names: frozenset[str]) -> Claim:
    """One of the files by which these libraries recognise a repository, at the top, and no other artifact's."""
    if names & _ENTRANCES and not names & _OTHERS:
        return Claim(strength="certain", kind=NAME, because="a configuration of a Hugging Face library at its top")
    return NOT_MINE


def read_folder(folder: Folder, scope: Scope) -> Reading:
    """Rules 2 to 4; each file was read on its own."""
    del scope
    reasons: list[Reason] = list(_git(folder))
    configurations = 0
    for name in sorted(folder.names):
        sight = folder.sight(name)
        if sight is None or not len(sight):
            continue
        if name.endswith(".json"):
            configurations += 1
            if configurations > MAX_READ_FILES:
                reasons.append(_reason("too-many-files", name, f"more than {MAX_READ_FILES} configurations"))
                break
            reasons += _configuration(folder, name, sight)
        elif name.endswith((".jinja", ".jinja2", ".j2")):
            reasons += _template(name, sight)
        reasons += _named(folder, name)
    return Reading(covered=_size(folder), reasons=tuple(reasons), facts={"files": len(folder.names)})


def _configuration(folder: Folder, name: str, sight: Sight) -> Iterator[Reason]:
    """Rules 1 and 3 for what loaders take for JSON; what its own reading refused already is not said twice."""
    if sight.json is NO_JSON:
        yield _reason("not-json", name, "loaders read it as JSON, and it is none")
        return
    if folder.kinds.get(name) != NAME:
        yield from _at(hf_config.check(sight.json, NAME), name)
    yield from _missing(folder, name, sight.json)


def _missing(folder: Folder, name: str, value: Any) -> Iterator[Reason]:
    beside = posixpath.dirname(name)
    for shard in sorted(hf_config.shards(value)):
        if hf_config.is_plain_path(shard) and posixpath.join(beside, shard) not in folder.names:
            yield Reason(
                rule=f"{NAME}:missing-shard",
                where=f"shard `{shown(shard)}`",
                why="the index names it, and it is not there: what would be loaded instead is unknown",
                remedy="fetch all files of the repository and scan the folder again",
                weight="incomplete",
                member=name,
            )
            return


def _template(name: str, sight: Sight) -> tuple[Reason, ...]:
    text = sight.text
    if text is None:
        return (_reason("template-encoding", name, "loaders render it as a template, and it is no text"),)
    return _at(jinja.check(text, NAME, "template"), name)


def _named(folder: Folder, name: str) -> Iterator[Reason]:
    """Rule 2 for weights."""
    wanted = _MUST_BE.get(posixpath.splitext(name)[1])
    kind = folder.kinds.get(name, wanted)
    if wanted and kind not in {wanted, "polyglot", "unknown"}:
        yield _reason("out-of-place", name, f"loaders take it for {wanted}, and it is {kind}")


def _git(folder: Folder) -> Iterator[Reason]:
    for name in sorted(folder.names):
        if ".git" in name.split("/")[:-1]:
            why = "a checkout's own folder holds hooks that git runs and objects that no scan of the model covers"
            yield Reason(rule=f"{NAME}:git-folder", where="folder", why=why, remedy=REMEDY, member=name)
            return


def _at(reasons: tuple[Reason, ...], member: str) -> tuple[Reason, ...]:
    return tuple(
        Reason(rule=one.rule, where=one.where, why=one.why, remedy=one.remedy, weight=one.weight, member=member) for one in reasons
    )


def _reason(rule: str, member: str, why: str) -> Reason:
    return Reason(rule=f"{NAME}:{rule}", where="whole file", why=why, remedy=REMEDY, member=member)


def _size(folder: Folder) -> int:
    return sum(len(sight) for name in folder.names if (sight := folder.sight(name)) is not None)
