"""A Keras architecture alone: what `model.to_json()` or `to_yaml()` wrote, or the `config.json` of an unpacked `.keras`.

Rules
1. A JSON object or YAML mapping with `class_name` and `config` beside a key that only Keras writes, or with the class of a whole model.
2. Every object in it is held to keras_config.py, as inside a `.keras` or `.h5`: `model_from_json` builds what it names.
3. It is read strictly: no duplicate keys, no tags that construct.
"""

from __future__ import annotations

from typing import Any

from vouchgate.scanning import keras_config
from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.sight import NO_JSON, Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.strict_json import acting, strict
from vouchgate.scanning.verdict import Reading, Refuse
from vouchgate.scanning.yaml_events import MAX_YAML, Document, NoYaml, looks_structured, plain_values, read_events

NAME = "keras-config"
REMEDY = "keep only Keras' own layers in the architecture, and write it again with `model.to_json()`"
_WRITTEN = frozenset(("keras_version", "backend", "registered_name", "module", "build_config", "compile_config"))
"""What Keras 2 and 3 write beside the two; other libraries' configurations have a `class_name` too."""
_MODELS = frozenset(("Sequential", "Functional", "Model"))


def recognise(sight: Sight) -> Claim:
    """Rule 1."""
    root = sight.json if sight.json is not NO_JSON else _roots(sight)
    if not isinstance(root, dict) or not {"class_name", "config"} <= root.keys():
        return NOT_MINE
    if not _WRITTEN & root.keys() and root["class_name"] not in list(_MODELS):
        return NOT_MINE
    because = "a class and its configuration, as Keras writes a model's architecture"
    return Claim(strength="certain", kind=NAME, because=because, above=("json", "yaml", "text", "csv", "hugging-face"))


def read(sight: Sight, scope: Scope) -> Reading:
    """Rules 2 and 3."""
    del scope
    value = strict(sight, NAME) if sight.json is not NO_JSON else _yaml(sight)
    found = acting(value)
    reasons = keras_config.check(value, NAME)
    if found and not reasons:
        raise Refuse(f"{NAME}:acting-key", f"key `{shown(found[0])}`", f"{found[1]}, and the file chooses the name", REMEDY)
    return Reading(
        covered=len(sight), reasons=reasons, facts={"class": shown(str(value.get("class_name"))) if isinstance(value, dict) else ""}
    )


def _roots(sight: Sight) -> dict[str, str]:
    """The keys of a YAML mapping with their texts; none for any other text."""
    text = sight.text
    if text is None or len(text) > MAX_YAML or "class_name" not in text or not looks_structured(text):
        return {}
    try:
        document = _document(text)
    except NoYaml:
        return {}
    return {} if document.fault else document.keys


def _document(text: str) -> Document:
    return read_events(text.removeprefix("\ufeff"))


def _yaml(sight: Sight) -> Any:
    text = sight.text
    if text is None or len(text) > MAX_YAML:
        raise Refuse(f"{NAME}:encoding", "offset 0", "it is no UTF-8 text, or over the bound for YAML", REMEDY)
    try:
        document = _document(text)
    except NoYaml as error:
        remedy = "run `pip install 'vouchgate[scan]'`"
        raise Refuse(f"{NAME}:no-reader", "offset 0", "reading YAML needs a library that is not installed", remedy, "incomplete") from error
    if document.fault:
        raise Refuse(f"{NAME}:yaml", document.fault, "it is neither JSON nor YAML to the end", REMEDY)
    for line, rule, why, _ in document.acts:
        raise Refuse(f"{NAME}:{rule}", f"line {line}", why, REMEDY)
    return plain_values(text)
