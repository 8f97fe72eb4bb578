"""Rules over the states of configurations and tokenizers of transformers.

Rules
1. A configuration may name code: classes of a repository (`auto_map`, `custom_pipelines`), or a repository whose compiled attention is fetched and run
   when a model is made (`attn_implementation = "owner/name"`; transformers/integrations/hub_kernels.py). A file's configuration names none of them,
   at any depth of the plain values it holds.
2. Settings of single layers lie in an object of their own, which is not looked into: there are none (`_heterogeneity_spec`).
3. A tokenizer's chat template is a program (Jinja). In a folder it is read as one; in a pickle there is none.
4. What a rule looked at stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from vouchgate.scanning.pickles.fitting import MAX_PLAIN, Fit, attributes, children
from vouchgate.scanning.pickles.values import Dict, List, Tuple, Value
from vouchgate.scanning.pickles.work import visit

NAMES_CODE = ("auto_map", "custom_pipelines", "custom_generate", "trust_remote_code", "attribute_map")
"""`attribute_map` lets one key be read in another's place, and is the class's to say."""
LAYERS = "_heterogeneity_spec"
IMPLEMENTATION = "implementation"
"""What a key that chooses a compiled function holds: `_attn_implementation_internal`, `experts_implementation`."""
TEMPLATES = ("chat_template", "_chat_template", "default_chat_template")


def _pairs(state: Value) -> Iterator[tuple[Value, Value]]:
    """Pairs of all dicts inside, at any depth of plain containers, which are then closed (rule 4)."""
    seen: set[int] = set()
    waiting: list[Value] = [state]
    while waiting and len(seen) < MAX_PLAIN:
        one = waiting.pop()
        if id(one) in seen or not isinstance(one, Dict | List | Tuple):
            continue
        seen.add(id(one))
        inside = children(one)
        visit(len(inside) + 1)
        waiting.extend(inside)
        if isinstance(one, Dict):
            yield from one.pairs
        if one is not state and isinstance(one, Dict | List):
            one.closed = True


def _empty(value: Value) -> bool:
    return value is None or value is False or (isinstance(value, Dict) and not value.pairs)


def _names_code(key: Value, value: Value) -> bool:
    if key in NAMES_CODE:
        return not _empty(value)
    if not isinstance(key, str) or IMPLEMENTATION not in key:
        return False
    named = [part for _, part in value.pairs] if isinstance(value, Dict) else [value]
    return not all(one is None or (isinstance(one, str) and "/" not in one) for one in named)


def _config(fit: Fit) -> str:
    """Rules 1 and 2."""
    wrong = attributes(fit.state)
    if wrong:
        return wrong
    found = next((key for key, value in _pairs(fit.state) if _names_code(key, value)), None)
    if found:
        return f"its `{found}` names code that using it would fetch or run"
    apart = any(key == LAYERS and not _empty(value) for key, value in _pairs(fit.state))
    return "it has settings of single layers, which may name code and are not looked into" if apart else ""


def _tokenizer(fit: Fit) -> str:
    """Rules 1 and 3."""
    wrong = _config(fit)
    held = any(key in TEMPLATES and not _empty(value) for key, value in _pairs(fit.state))
    return wrong or ("it brings a chat template, which is a program: keep it beside the tokenizer's own file" if held else "")


STATES: Mapping[str, Callable[[Fit], str]] = {
    "transformers-config": _config,
    "transformers-tokenizer": _tokenizer,
}
