"""Finds text that would act if something rendered or evaluated it: markup, templates, code to evaluate.

It only ever puts up for review: metadata is inert to loaders, and no list of patterns is complete, so no `clean` rests on it either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_ACTIVE = re.compile(
    r"(?P<markup><[a-zA-Z!/?])|(?P<template>\{\{|\{%|\$\{|<%)|(?P<script>(?i:\b(?:java|vb)script:|\bdata:[a-z]+/[a-z]))"
    r"|(?P<code>__[a-z]+__|\b(?:eval|exec|compile|getattr|system|popen)\()|(?P<control>[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069])"
)
_WHAT = {
    "markup": "markup",
    "template": "a template expression",
    "script": "a script address",
    "code": "an expression that code could evaluate",
    "control": "control characters",
}


def first_active(texts: Mapping[str, str]) -> tuple[str, str] | None:
    """The first key whose key or value is active, and what it holds; None if all is plain."""
    for key, value in texts.items():
        match = _ACTIVE.search(key) or _ACTIVE.search(value)
        if match:
            return key, _WHAT[match.lastgroup or "code"]
    return None
