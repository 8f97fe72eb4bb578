"""`tokenizer.json` of the tokenizers library: a pipeline of known parts over a vocabulary.

Rules (huggingface/tokenizers, `Tokenizer` and the serialised forms of its components)
1. Strict JSON; at the top only the library's own keys; every component's `type` is one of the library's, at any depth of a sequence.
2. A vocabulary maps texts to integers that fit 32 bits (or lists text and score); merges are pairs of text.
3. Patterns are bounded in length, and none repeats a repetition without end: matching it could take for ever (put up for review).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.strict_json import every, strict
from vouchgate.scanning.verdict import Reading, Reason, Refuse

NAME = "tokenizer"
REMEDY = "save the tokenizer again with the tokenizers library (`tokenizer.save`)"
MAX_PATTERN = 8_192
"""Characters of one pattern; the longest in use lists the ideographs of several scripts in about 2,000."""
MAX_ID = 2**32 - 1
"""Token ids are unsigned 32-bit integers."""
_TOP = frozenset(
    ("version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model")
)  # fmt: skip
_MODELS = frozenset(("BPE", "WordPiece", "WordLevel", "Unigram"))
_COMPONENTS = {
    "normalizer": frozenset((
        "Sequence", "BertNormalizer", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "Strip", "StripAccents", "Replace", "Prepend",
        "Precompiled", "ByteLevel",
    )),
    "pre_tokenizer": frozenset((
        "Sequence", "BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Delimiter", "Metaspace", "Punctuation", "Split", "Whitespace",
        "WhitespaceSplit", "Digits", "UnicodeScripts", "FixedLength",
    )),
    "post_processor": frozenset(("Sequence", "BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing")),
    "decoder": frozenset((
        "Sequence", "BPEDecoder", "ByteLevel", "ByteFallback", "CTC", "Fuse", "Metaspace", "Replace", "Strip", "WordPiece", "BPE",
    )),
}  # fmt: skip


def recognise(sight: Sight) -> Claim:
    """An object whose `model` has a vocabulary, beside the library's other keys."""
    value = sight.json
    model = value.get("model") if isinstance(value, dict) else None
    if not isinstance(model, dict) or "vocab" not in model or not {"added_tokens", "pre_tokenizer", "version"} & value.keys():
        return NOT_MINE
    because = "a vocabulary in a pipeline of the tokenizers library"
    return Claim(strength="certain", kind=NAME, because=because, above=("json", "text", "hugging-face"))


def read(sight: Sight, scope: Scope) -> Reading:
    """Rules 1 to 3."""
    value = strict(sight, NAME)
    unknown = value.keys() - _TOP
    if unknown:
        _refuse("unknown-key", f"key `{shown(min(unknown))}`", "the tokenizers library knows no such key")
    for key, kinds in _COMPONENTS.items():
        _component(value.get(key), key, kinds)
    _check_added(value.get("added_tokens", []))
    _check_model(value["model"])
    return Reading(covered=len(sight), reasons=tuple(_endless(value, scope)), facts={"tokens": len(value["model"]["vocab"])})


def _component(part: Any, key: str, kinds: frozenset[str]) -> None:
    if part is None:
        return
    for path, here in every(part):
        if not isinstance(here, dict) or (path and "type" not in here):
            continue
        kind = here.get("type")
        if isinstance(kind, str) and kind not in kinds and not _is_part_of_template(path):
            _refuse("component", f"key `{shown(key + path)}`", f"`{shown(kind)}` is no {key} of the tokenizers library")
        if not isinstance(kind, str | None):
            _refuse("component", f"key `{shown(key + path)}`", "its type is no text")


def _is_part_of_template(path: str) -> bool:
    return path.endswith((".single", ".pair")) or ".special_tokens" in path


def _check_added(tokens: Any) -> None:
    if not isinstance(tokens, list) or not all(
        isinstance(one, dict) and isinstance(one.get("content"), str) and _is_id(one.get("id")) for one in tokens
    ):
        _refuse("added-tokens", "key `added_tokens`", "it is no list of tokens with an id and their content")


def _check_model(model: dict[str, Any]) -> None:
    kind, vocabulary = model.get("type"), model["vocab"]
    if kind is not None and str(kind) not in _MODELS:
        _refuse("model", "key `model.type`", f"`{shown(str(kind))}` is no model of the tokenizers library")
    if isinstance(vocabulary, dict):
        if not all(map(_is_id, vocabulary.values())):
            _refuse("vocabulary", "key `model.vocab`", "a token's id is no unsigned 32-bit integer")
    elif not isinstance(vocabulary, list) or not all(map(_is_scored, vocabulary)):
        _refuse("vocabulary", "key `model.vocab`", "it is neither a map of tokens to ids nor a list of tokens with scores")
    merges = model.get("merges") or []
    if not isinstance(merges, list) or not all(isinstance(one, str) or _is_pair(one) for one in merges):
        _refuse("merges", "key `model.merges`", "it is no list of pairs of text")


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_ID


def _is_scored(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int | float)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], str)


def _endless(value: dict[str, Any], scope: Scope) -> Iterator[Reason]:
    """Rule 3, over the parts that have patterns; the vocabulary is none of them."""
    for key in _COMPONENTS:
        for path, here in every(value.get(key)):
            pattern = here.get("Regex") if isinstance(here, dict) else None
            if pattern is None:
                continue
            where = f"key `{shown(key + path)}`"
            if not isinstance(pattern, str) or len(pattern) > min(MAX_PATTERN, scope.settings.max_text_bytes):
                _refuse("pattern-size", where, f"its pattern is no text of at most {MAX_PATTERN} characters")
            if repeats_a_repetition(pattern):
                why = "its pattern repeats a repetition without end, so that matching some text would take for ever"
                yield Reason(rule=f"{NAME}:endless-pattern", where=where, why=why, remedy=REMEDY, weight="review")


def repeats_a_repetition(pattern: str) -> bool:
    """Whether an unbounded quantifier stands behind a group that holds one (`(a+)+`). Classes and escapes are stepped over; one pass."""
    groups: list[bool] = [False]
    closed, here, size = False, 0, len(pattern)
    while here < size:
        character, after = pattern[here], here + 1
        if character == "\\":
            closed, after = False, here + 2
        elif character == "[":
            closed, after = False, _class_end(pattern, here)
        elif character == "(":
            groups.append(False)
            closed = False
        elif character == ")" and len(groups) > 1:
            closed = groups.pop()
            groups[-1] |= closed
        else:
            unbounded, after = _quantifier(pattern, here)
            if unbounded and closed:
                return True
            groups[-1] |= unbounded
            closed = closed and after == here
            after = max(after, here + 1)
        here = after
    return False


def _class_end(pattern: str, here: int) -> int:
    """Place behind a character class; classes nest in Oniguruma (`[a[b]]`, `[a&&[^b]]`)."""
    depth = 0
    while here < len(pattern):
        character = pattern[here]
        if character == "\\":
            here += 1
        elif character == "[":
            depth += 1
        elif character == "]":
            depth -= 1
            if not depth:
                return here + 1
        here += 1
    return here


def _quantifier(pattern: str, here: int) -> tuple[bool, int]:
    """Whether an unbounded quantifier stands here, and the place behind it."""
    if pattern[here] in "*+":
        return True, here + 1
    if pattern[here] != "{":
        return False, here + 1
    end = pattern.find("}", here, here + 24)
    body = pattern[here + 1 : end] if end > 0 else ""
    if not body or body.strip("0123456789,"):
        return False, here + 1
    return body.endswith(","), end + 1


def _refuse(rule: str, where: str, why: str) -> NoReturn:
    raise Refuse(f"{NAME}:{rule}", where, why, REMEDY)
