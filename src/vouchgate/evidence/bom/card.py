"""What a model says of itself: the front matter of its card (README.md), config.json and tokenizer_config.json. Claims, every one of them.

Rules
1. Front matter stands between two lines of `---` at the very beginning (Hugging Face, "Model cards"). Its YAML is read as events and built from plain
   text alone: no tag, anchor or alias, no key twice, bounded in bytes, depth and values. `no` stays `no`.
2. What cannot be read claims nothing, and that is noted.
3. Texts are single lines of bounded length, lists of bounded count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vouchgate.evidence.bom.python import MISSING, REMEDY, spdx
from vouchgate.evidence.strict_documents import parse
from vouchgate.vocabulary.errors import InvalidInput, Unavailable
from vouchgate.vocabulary.wire import Noun

CARD, CONFIG, TOKENIZER = "README.md", "config.json", "tokenizer_config.json"
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""Bytes of one of these files; a tokenizer's settings with thousands of added tokens have some 4 MiB."""
MAX_FRONT_BYTES = 256 * 1024
"""Bytes of front matter; measured results of many tasks take some 100 KiB."""
MAX_VALUES = 20_000
MAX_DEPTH = 16
"""Collections within each other; a card's results have six."""
MAX_TEXT = 300
"""Characters kept of one text."""
MAX_ITEMS = 100
"""Items kept of one list."""


class Claims(Noun, frozen=True, kw_only=True):
    """What a model's own files claim; nothing of it was checked."""

    license: str = ""
    """SPDX expression; empty where the claim is none."""
    license_text: str = ""
    """The claim as it stands, where it is no SPDX expression."""
    base_models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    task: str = ""
    library: str = ""
    languages: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    model_type: str = ""
    dtype: str = ""
    tokenizer: str = ""
    notes: tuple[str, ...] = ()
    """Which files could not be read, and why."""


def read_claims(files: Mapping[str, bytes]) -> Claims:
    """From the contents of `CARD`, `CONFIG` and `TOKENIZER`, as far as they are there. Raises `Unavailable` without the extra."""
    notes: list[str] = []
    card = _noted(notes, CARD, lambda: front_matter(files[CARD])) if CARD in files else {}
    config = _noted(notes, CONFIG, lambda: _json(files[CONFIG], CONFIG)) if CONFIG in files else {}
    tokenizer = _noted(notes, TOKENIZER, lambda: _json(files[TOKENIZER], TOKENIZER)) if TOKENIZER in files else {}
    said = _one(card.get("license"))
    if said.lower() == "other":
        said = _one(card.get("license_name")) or said
    expression = spdx(said)
    return Claims(
        license=expression,
        license_text="" if expression else said,
        base_models=_many(card.get("base_model")),
        datasets=_many(card.get("datasets")),
        task=_one(card.get("pipeline_tag")),
        library=_one(card.get("library_name")),
        languages=_many(card.get("language")),
        architectures=_many(config.get("architectures")),
        model_type=_one(config.get("model_type")),
        dtype=_one(config.get("dtype")) or _one(config.get("torch_dtype")),
        tokenizer=_one(tokenizer.get("tokenizer_class")),
        notes=tuple(notes),
    )


def front_matter(data: bytes) -> dict[str, Any]:
    """Rule 1: plain text, lists and mappings; nothing where the file has no front matter. Raises `InvalidInput`, `Unavailable`."""
    lines = data[: MAX_FRONT_BYTES + 1].removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").split(b"\n")
    if not lines or lines[0].rstrip() != b"---":
        return {}
    ends = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == b"---"), 0)
    if not ends:
        raise InvalidInput(f"the front matter has no end within {MAX_FRONT_BYTES} bytes", remedy="end it with a line of `---`")
    try:
        found = _built(b"\n".join(lines[1:ends]).decode("utf-8"))
    except UnicodeDecodeError:
        raise InvalidInput("the front matter is no UTF-8", remedy="write it again") from None
    if not isinstance(found, dict):
        raise InvalidInput("the front matter is no mapping", remedy="write `key: value` lines")
    return found


def _built(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise Unavailable(MISSING, remedy=REMEDY) from None
    try:
        return _Builder(yaml).document(yaml.parse(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError):
        raise InvalidInput("the front matter is no YAML", remedy="write it again") from None


class _Builder:
    """Events in, plain values out."""

    def __init__(self, yaml: Any) -> None:
        self._yaml, self._values = yaml, 0

    def document(self, events: Any) -> Any:
        """The one document's value; None for an empty text."""
        found = None
        for event in events:
            if isinstance(event, self._yaml.DocumentStartEvent):
                if found is not None:
                    raise InvalidInput("the front matter is more than one document", remedy="write one")
                found = self._node(next(events), events, 0)
        return {} if found is None or found == "" else found

    def _node(self, event: Any, events: Any, depth: int) -> Any:
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            raise InvalidInput("the front matter is too deep or has too many values", remedy="write less of it")
        yaml = self._yaml
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None or event.tag not in (None, "!"):
            raise InvalidInput("the front matter has tags, anchors or aliases", remedy="write plain values")
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(following := next(events), yaml.SequenceEndEvent):
                items.append(self._node(following, events, depth + 1))
            return items
        return self._mapping(events, depth) if isinstance(event, yaml.MappingStartEvent) else event.value

    def _mapping(self, events: Any, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(following := next(events), self._yaml.MappingEndEvent):
            key = self._node(following, events, depth + 1)
            if not isinstance(key, str) or key in found:
                raise InvalidInput("the front matter has a key twice, or one that is no text", remedy="write each key once")
            found[key] = self._node(next(events), events, depth + 1)
        return found


def _json(data: bytes, name: str) -> dict[str, Any]:
    return parse(data, limit=MAX_DOCUMENT_BYTES, what=name)


def _noted(notes: list[str], name: str, read: Any) -> dict[str, Any]:
    """Rule 2."""
    try:
        return read()  # type: ignore[no-any-return]
    except InvalidInput as error:
        notes.append(f"{name} claims nothing: {error.reason}")
        return {}


def _one(value: Any) -> str:
    """Rule 3; of a list the first."""
    text = value[0] if isinstance(value, list) and value else value
    return re.sub(r"\s+", " ", text).strip()[:MAX_TEXT] if isinstance(text, str) else ""


def _many(value: Any) -> tuple[str, ...]:
    """Rule 3, each once; a single text is a list of one."""
    items = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(text for item in items[:MAX_ITEMS] if (text := _one(item))))
