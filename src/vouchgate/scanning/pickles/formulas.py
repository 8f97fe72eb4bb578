"""Model formulas (`y ~ x + C(group)`): their parts are Python expressions, and loading some results evaluates them again.

Rules
1. A formula is tokens: names of columns, numbers, texts in quotes as arguments of a function, the operators of formulas, and calls of the
   functions in `FUNCTIONS`. Anything else (attributes, subscripts, other calls, keywords, underscores at both ends of a name) is refused.
2. A name before `(` is a call; a dotted name is one function of `FUNCTIONS` or nothing.

Sources: patsy, "How formulas work"; formulaic, "Grammar"; statsmodels/base/data.py (`ModelData.__setstate__`).
"""

from __future__ import annotations

import io
import keyword
import tokenize

MAX_FORMULA = 16_384
"""Characters: a formula names columns one by one."""
MAX_DEPTH = 50
"""Brackets within each other."""
FUNCTIONS = frozenset(
    {
        "C",
        "Q",
        "I",
        "bs",
        "cr",
        "cc",
        "te",
        "center",
        "standardize",
        "scale",
        "poly",
        "Treatment",
        "Sum",
        "Poly",
        "Helmert",
        "Diff",
        "log",
        "exp",
    }
    | {
        f"np.{name}"
        for name in ("log", "log1p", "log2", "log10", "exp", "expm1", "sqrt", "abs", "square", "sin", "cos", "tanh", "power", "sign")
    }
)
"""Functions whose only effect is their value: patsy's and formulaic's own, and element-wise ones of numpy."""
_OPERATORS = frozenset({"~", "+", "-", "*", "/", ":", "**", "(", ")", ",", "=", "|", "^", "%", "<", ">"})
_PASSED = frozenset({tokenize.NEWLINE, tokenize.NL, tokenize.ENDMARKER, tokenize.INDENT, tokenize.DEDENT})


def wrong_formula(text: str) -> str:
    """What is wrong with a formula; empty where it fits."""
    if len(text) > MAX_FORMULA or not text.isprintable():
        return "its formula is too long, or has control characters"
    try:
        tokens = [one for one in tokenize.generate_tokens(io.StringIO(text).readline) if one.type not in _PASSED]
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return "its formula cannot be taken apart"
    return _wrong_tokens(_joined(tokens))


def _joined(tokens: list[tokenize.TokenInfo]) -> list[tuple[int, str]]:
    """Dotted names as one (rule 2)."""
    out: list[tuple[int, str]] = []
    for token in tokens:
        dotted = out and (token.string == "." or out[-1][1].endswith(".")) and out[-1][0] == tokenize.NAME
        if dotted and token.type in (tokenize.OP, tokenize.NAME):
            out[-1] = (tokenize.NAME, out[-1][1] + token.string)
        else:
            out.append((token.type, token.string))
    return out


def _wrong_tokens(tokens: list[tuple[int, str]]) -> str:
    depth = 0
    for place, (kind, text) in enumerate(tokens):
        after = tokens[place + 1][1] if place + 1 < len(tokens) else ""
        if kind == tokenize.NAME and not _name_fits(text, after):
            return f"its formula uses `{text[:60]}`"
        if kind == tokenize.STRING and not (text[0] in "\"'" and depth):
            return "its formula has a text that is no plain argument"
        if kind == tokenize.OP and text not in _OPERATORS:
            return f"its formula uses `{text}`"
        if text == "(" and place and (tokens[place - 1][0] != tokenize.NAME and tokens[place - 1][1] in (")",)):
            return "its formula calls what another call gave"
        if kind not in (tokenize.NAME, tokenize.NUMBER, tokenize.STRING, tokenize.OP):
            return "its formula has what is no part of a formula"
        depth += (text == "(") - (text == ")")
        if not 0 <= depth <= MAX_DEPTH:
            return "its brackets do not close, or lie too deep"
    return "its brackets do not close" if depth else ""


def _name_fits(text: str, after: str) -> bool:
    """Rules 1 and 2."""
    if "." in text or after == "(":
        return text in FUNCTIONS and after == "("
    return text.isascii() and not keyword.iskeyword(text) and not (text.startswith("__") and text.endswith("__"))
