"""Writes the commented vouchgate.toml: every key with its meaning, bounds and default, from the one list in vocabulary/settings.py."""

from __future__ import annotations

import textwrap
from typing import Annotated, Any, get_args, get_origin

import msgspec

from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.settings_file import hints_of, table_of
from vouchgate.vocabulary.wire import Noun

WIDTH = 118
"""Characters of a comment line."""

_EXAMPLES: dict[str, dict[str, str]] = {
    "zones": {"mode": '"enforce"'},
    "endpoints": {
        "name": '"digits"',
        "zone": '"serve"',
        "upstream": '"tcp:127.0.0.1:9000"',
        "routes": '[{ method = "POST", path = "/v2/models/{name}/infer", action = "infer" }]',
    },
    "identities": {"name": '"shop"', "kind": '"service"', "zone": '"serve"', "groups": '["callers"]'},
    "crossings": {"from": '"admin"', "to": '"serve"', "actions": '["import", "admit"]', "kinds": '["artifact"]', "vouches": '["scan"]'},
    "assets": {"name": '"digits-train"', "kind": '"dataset"', "zones": '["serve"]'},
    "applications": {"name": '"legacy"', "schema": '"policies/legacy.cedarschema"', "policies": '["policies/legacy.cedar"]'},
    "administrators": {"name": '"operator"', "uid": "1000", "roles": '["registrar", "responder"]'},
    "policies": {"path": '"policies/digits.cedar"'},
    "secrets": {"name": '"warehouse"', "rotator": '"postgres"'},
    "federation": {"name": '"partner"', "trust_domain": '"partner.example"', "url": '"https://partner.example/bundle"'},
    "signers": {"name": '"ml-team"', "kind": '"key"', "key_file": '"keys/ml-team.pub"'},
    "builders": {
        "name": '"ci"',
        "kind": '"sigstore"',
        "builder": '"https://github.com/actions/runner/github-hosted"',
        "sources": '["https://github.com/example/model"]',
        "trusted_root": '"keys/trusted_root.json"',
        "identity": '"https://github.com/example/model/.github/workflows/release.yml@*"',
        "issuer": '"https://token.actions.githubusercontent.com"',
    },
    "egress": {
        "name": '"provider"',
        "zone": '"serve"',
        "upstream": '"https://api.example.com"',
        "prefix": '"/provider"',
        "routes": '[{ method = "POST", path = "/v1/chat/completions", action = "call", streams = true }]',
    },
    "oidc": {
        "name": '"staff"',
        "issuer": '"https://login.example.com"',
        "client_id": '"vouchgate"',
        "groups": '{ "ml-team" = "callers", "ml-admins" = "role:registrar" }',
    },
}
"""Values of the commented examples; where a key is missing here its default stands."""
_NAMED = {"zones": "serve"}


class Key(Noun, frozen=True, kw_only=True):
    """One key of vouchgate.toml."""

    table: str
    """`` for the top, `gateway`, `zones.<name>`, `[endpoints]`."""
    name: str
    meaning: str
    default: str
    """As TOML; empty where it must be given."""


def known_keys() -> tuple[Key, ...]:
    """Every key, in the order of the file."""
    found: list[Key] = []
    for name, kind in hints_of(Settings).items():
        shape, inner = table_of(kind)
        if shape == "value":
            found.append(_key("", name, kind, Settings))
        else:
            table = {"one": name, "named": f"{name}.<name>", "many": f"[{name}]"}[shape]
            found += [_key(table, field, hint, inner) for field, hint in hints_of(inner).items()]
    return tuple(found)


def settings_template(*, trust_domain: str = "example.local", data_dir: str = "data", root_dir: str = "root", solo: bool = False) -> str:
    """The file that `init` writes: it parses as it is, and every commented line shows the default or an example."""
    given = {"trust_domain": _toml(trust_domain), "data_dir": _toml(data_dir), "root_dir": _toml(root_dir), "solo": _toml(solo)}
    parts = ["# vouchgate.toml: commented lines show the defaults; `vouchgate config check` reads this file.\n"]
    table = ""
    for key in known_keys():
        if key.table != table:
            table = key.table
            parts.append(_header(table))
        parts += textwrap.wrap(key.meaning, WIDTH, initial_indent="# ", subsequent_indent="# ")
        if table == "" and key.name in given:
            parts.append(f"{key.name} = {given[key.name]}")
            continue
        example = _EXAMPLES.get(table.strip("[]").split(".")[0], {}).get(key.name)
        parts.append(f"# {key.name} = {example or key.default}")
    return "\n".join(parts) + "\n"


def _header(table: str) -> str:
    if table.startswith("["):
        return f"\n# [[{table.strip('[]')}]]"
    name, dot, _ = table.partition(".")
    return f"\n# [{name}.{_NAMED[name]}]" if dot else f"\n[{name}]"


def _key(table: str, name: str, hint: Any, owner: type[Noun]) -> Key:
    field = next(field for field in msgspec.structs.fields(owner) if field.encode_name == name)
    required = field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT
    default = "" if required else _toml(field.default if field.default is not msgspec.NODEFAULT else field.default_factory())
    return Key(table=table, name=name, meaning=_meaning(hint), default=default)


def _meaning(hint: Any) -> str:
    told, low, high = "", None, None
    if get_origin(hint) is Annotated:
        for note in get_args(hint)[1:]:
            if isinstance(note, msgspec.Meta):
                told = note.description or told
                low, high = note.ge if low is None else low, note.le if high is None else high
    bounds = f" ({low} to {high})" if low is not None and high is not None else f" (at least {low})" if low is not None else ""
    return told + bounds


def _toml(value: Any) -> str:
    """A default as TOML: strings, numbers, booleans, and empty or flat lists and tables of them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()
    if isinstance(value, tuple | list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_toml(key)} = {_toml(item)}' for key, item in value.items())} }}" if value else "{}"
    return str(value)
