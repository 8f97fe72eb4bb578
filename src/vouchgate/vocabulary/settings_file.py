"""Reads vouchgate.toml into `Settings`, and refuses everything that is not listed there.

Rules
1. An unknown key is refused with file, line and the nearest known key, so a misspelt limit is never silently the default.
2. Values that contradict each other are refused here, once, not where they are used.
3. A relative path is relative to the settings file. Parsing opens nothing: whether a path exists is found by who opens it.
Left to others: reading the file, and the environment (wiring).
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from vouchgate.vocabulary.errors import InvalidInput, InvalidName, InvalidSettings
from vouchgate.vocabulary.habits import check_networks, hours_of
from vouchgate.vocabulary.names import principal, resource, trust_domain
from vouchgate.vocabulary.settings import (
    FIRST_SERVER_OFFSET,
    MAX_SETTINGS_BYTES,
    NAME_PATTERN,
    ROLES,
    EndpointSettings,
    Settings,
    ZoneSettings,
    host_port,
    is_loopback,
)
from vouchgate.vocabulary.settings_authzen import absolute_applications, check_authzen
from vouchgate.vocabulary.settings_federation import absolute_federation, check_federation
from vouchgate.vocabulary.settings_gateway import check_gateway
from vouchgate.vocabulary.settings_keys import absolute_keys, check_keys
from vouchgate.vocabulary.settings_people import absolute_people, check_events, check_people
from vouchgate.vocabulary.settings_signers import absolute_signers, check_signers
from vouchgate.vocabulary.settings_zones import check_zones
from vouchgate.vocabulary.wire import Noun

NAME = re.compile(NAME_PATTERN)
NEAR = 0.6
"""Likeness above which a known key is named as the nearest (difflib's own default)."""


def parse_settings(text: str, path: Path) -> Settings:
    """Read vouchgate.toml. Raises `InvalidSettings` naming file, line, key and the nearest known key."""
    if len(text) > MAX_SETTINGS_BYTES:
        raise _wrong(path, 0, f"the file is larger than {MAX_SETTINGS_BYTES} bytes", "is this the right file?")
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        line = re.search(r"at line (\d+)", str(error))
        raise _wrong(path, int(line[1]) if line else 0, f"not TOML: {error}", "correct the line (https://toml.io)") from None
    lines = _Lines(text)
    _known_keys(document, Settings, (), path, lines)
    try:
        settings = msgspec.convert(document, Settings)
    except msgspec.ValidationError as error:
        where, what = _place(str(error))
        where = _with_name(where, document)
        raise _wrong(path, lines.of(where), f"`{_dotted(where)}`: {what}" if where else what, _HOW) from None
    return _checked(settings, path, lines)


_HOW = "`vouchgate config keys` lists every key with its meaning and bounds"


def _wrong(path: Path, line: int, what: str, remedy: str) -> InvalidSettings:
    at = f"{path}, line {line}" if line else str(path)
    return InvalidSettings(f"{at}: {what}", remedy=remedy)


Keys = tuple[str | int, ...]


def _dotted(where: Keys) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")


def _place(message: str) -> tuple[Keys, str]:
    """Split msgspec's `<what> - at `$.a[0].b``."""
    what, _, place = message.partition(" - at `$")
    parts: list[str | int] = []
    for name, index in re.findall(r"\.([A-Za-z0-9_-]+)|\[(\d+|\.\.\.)\]", place):
        parts.append(name or (int(index) if index.isdigit() else "..."))
    missing = re.search(r"missing required field `(\w+)`", what)
    what = f"`{missing[1]}` is missing" if missing else what[:1].lower() + what[1:]
    return tuple(parts), what


def _with_name(where: Keys, document: dict[str, Any]) -> Keys:
    """msgspec does not say which of the named tables is wrong; find it by reading each."""
    if where[:2] != ("zones", "..."):
        return tuple(part for part in where if part != "...")
    for name, table in document["zones"].items():
        try:
            msgspec.convert(table, ZoneSettings)
        except msgspec.ValidationError:
            return ("zones", name, *where[2:])
    return ("zones",)


def table_of(kind: Any) -> tuple[str, Any]:
    """`(one | many | named | value, struct)` for a field's type."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if isinstance(kind, type) and issubclass(kind, Noun):
        return "one", kind
    arguments = get_args(kind)
    for shape, inner in (("many", arguments[:1]), ("named", arguments[1:2])):
        if inner and isinstance(inner[0], type) and issubclass(inner[0], Noun):
            return shape, inner[0]
    return "value", None


def hints_of(kind: type[Noun]) -> dict[str, Any]:
    """Key as the file has it -> type."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.encode_name: hints[field.name] for field in msgspec.structs.fields(kind)}


def _known_keys(document: Any, kind: type[Noun], where: Keys, path: Path, lines: _Lines) -> None:
    """Rule 1. A value of the wrong type is left to the conversion."""
    if not isinstance(document, dict):
        return
    hints = hints_of(kind)
    for key, value in document.items():
        if key not in hints:
            raise _wrong(path, lines.of((*where, key)), f"unknown key `{_dotted((*where, key))[:200]}`", _nearest(key, hints))
        shape, inner = table_of(hints[key])
        if shape == "one":
            _known_keys(value, inner, (*where, key), path, lines)
        elif shape == "many" and isinstance(value, list):
            for number, item in enumerate(value):
                _known_keys(item, inner, (*where, key, number), path, lines)
        elif shape == "named" and isinstance(value, dict):
            for name, item in value.items():
                if not NAME.fullmatch(name):
                    wanted = "use lower-case letters, digits, `.`, `_` and `-`, at most 64 characters"
                    raise _wrong(path, lines.of((*where, key, name)), f"`{name[:80]}` is not a name", wanted)
                _known_keys(item, inner, (*where, key, name), path, lines)


class _Lines:
    """Finds the line of a key. Good enough for a message: a key inside an inline table gets the first line at or below its parent that
    names it."""

    _HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
    _KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")

    def __init__(self, text: str) -> None:
        self._text = text.splitlines()
        self._at: dict[Keys, int] = {}
        table: Keys = ()
        counts: dict[Keys, int] = {}
        for number, line in enumerate(self._text, 1):
            if header := self._HEADER.match(line):
                table = self._resolve(header[2], counts)
                if header[1] == "[[":
                    self._at.setdefault(table, number)
                    counts[table] = counts.get(table, -1) + 1
                    table = (*table, counts[table])
                self._at.setdefault(table, number)
            elif key := self._KEY.match(line):
                self._at.setdefault((*table, *self._split(key[1])), number)

    @staticmethod
    def _split(dotted: str) -> list[str]:
        return [part.strip().strip("\"'") for part in dotted.split(".")]

    def _resolve(self, dotted: str, counts: dict[Keys, int]) -> Keys:
        keys: Keys = ()
        parts = self._split(dotted)
        for position, part in enumerate(parts):
            keys = (*keys, part)
            if keys in counts and position < len(parts) - 1:
                keys = (*keys, counts[keys])
        return keys

    def of(self, where: Keys) -> int:
        """Line of the key, or of its nearest parent; 0 where neither is known."""
        if where in self._at:
            return self._at[where]
        for length in range(len(where) - 1, 0, -1):
            start = self._at.get(where[:length])
            if start:
                return self._inside(start, where[length:])
        return 0

    def _inside(self, start: int, rest: Keys) -> int:
        """Below `start`, the line that names the last key of `rest` for the n-th time, n from the index before it."""
        name = next((str(part) for part in reversed(rest) if isinstance(part, str)), "")
        skip = next((part for part in rest if isinstance(part, int)), 0)
        inside = re.compile(rf"(?<![A-Za-z0-9_-]){re.escape(name)}[\"']?\s*=")
        for number, line in enumerate(self._text[start - 1 :], start):
            found = len(inside.findall(line)) if name else 0
            if found > skip:
                return number
            skip -= found
        return start


def _checked(settings: Settings, path: Path, lines: _Lines) -> Settings:
    """Rules 2 and 3."""

    def no(where: Keys, what: str, remedy: str) -> InvalidSettings:
        return _wrong(path, lines.of(where), f"`{_dotted(where)}`: {what}", remedy)

    def named(where: Keys, check: Any, *arguments: Any) -> None:
        try:
            check(*arguments)
        except (InvalidName, InvalidInput) as error:
            raise no(where, error.reason, error.remedy) from None

    named(("trust_domain",), trust_domain, settings.trust_domain)
    for where, address in _addresses(settings):
        named(where, host_port, address)
    if settings.console.listen and not is_loopback(host_port(settings.console.listen)[0]):
        raise no(("console", "listen"), "the console listens on loopback only", "write 127.0.0.1:8470 and reach it through ssh -L")
    data, root = (_beside(path, folder) for folder in (settings.data_dir, settings.root_dir))
    if data == root or data in root.parents:
        raise no(
            ("root_dir",), "the root key may not lie in data_dir", "name a folder outside; who takes data_dir must not get the root key"
        )
    if settings.store.engine == "postgres" and not (settings.store.socket and settings.store.database):
        raise no(("store", "engine"), "postgres needs `socket` and `database`", "name both, or use sqlite")
    for number, administrator in enumerate(settings.administrators):
        for role in administrator.roles:
            if role not in ROLES:
                raise no(("administrators", number, "roles"), f"`{role[:64]}` is not a role", _nearest(role, ROLES))
    for number, identity in enumerate(settings.identities):
        if identity.kind in ("system", "declared"):
            raise no(("identities", number, "kind"), f"`{identity.kind}` is not given to anyone", "use service, person, agent or job")
        named(("identities", number, "kind"), principal, settings.trust_domain, identity.kind, identity.zone, identity.name)
        named(("identities", number, "networks"), check_networks, identity.networks)
        named(("identities", number, "hours"), hours_of, identity.hours)
    _check_twice(settings, no)
    _check_endpoints(settings, no, named)
    check_gateway(settings, no)
    check_zones(settings, no)
    check_keys(settings.keys, no)
    check_federation(settings.federation, settings.trust_domain, no)
    check_signers(settings.signers, settings.builders, no)
    check_authzen(settings.authzen, settings.applications, no)
    _check_sources(settings, no)
    person_zones = [one.zone for one in settings.identities if one.kind == "person"]
    check_people(settings.oidc, settings.ssf, person_zones, ROLES, no)
    check_events(settings.ssf, settings.sts.listen, settings.sts.url, no)
    return _absolute(settings, path)


def _addresses(settings: Settings) -> list[tuple[Keys, str]]:
    optional: list[tuple[Keys, str]] = [
        (("gateway", "plain_listen"), settings.gateway.plain_listen),
        (("gateway", "federated_listen"), settings.gateway.federated_listen),
        (("gateway", "egress_listen"), settings.gateway.egress_listen),
        (("console", "listen"), settings.console.listen),
        (("sts", "listen"), settings.sts.listen),
        (("authzen", "listen"), settings.authzen.listen),
    ]
    return [(("gateway", "listen"), settings.gateway.listen), *(entry for entry in optional if entry[1])]


def _nearest(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), 1, NEAR) or [name for name in known if name.startswith(word) and word]
    return f"did you mean `{near[0]}`?" if near else f"use one of {', '.join(known) or 'none yet: add one'}"


def _check_endpoints(settings: Settings, no: Any, named: Any) -> None:
    names = {endpoint.name: endpoint for endpoint in settings.endpoints}
    standing_for = {target for endpoint in settings.endpoints for target in endpoint.models.values()}
    for number, endpoint in enumerate(settings.endpoints):
        here = ("endpoints", number)
        named((*here, "name"), resource, settings.trust_domain, "endpoint", endpoint.name)
        if endpoint.zone not in settings.zones:
            raise no((*here, "zone"), f"there is no zone `{endpoint.zone}`", _nearest(endpoint.zone, settings.zones))
        if bool(endpoint.command) == bool(endpoint.upstream):
            raise no(here, "an endpoint has either `command` or `upstream`", "start the server by `command`, or say where it listens")
        if endpoint.upstream:
            _check_upstream(endpoint.upstream, (*here, "upstream"), names, no)
        if endpoint.wrapped and endpoint.routes:
            raise no((*here, "wrapped"), "a wrapped endpoint has no `routes`", "remove one of both")
        if not endpoint.wrapped and not endpoint.mcp and not endpoint.routes and endpoint.name not in standing_for:
            raise no(here, "`routes` is missing", "list the routes; what is not listed does not exist")
        if endpoint.wrapped and settings.zones[endpoint.zone].mode == "enforce":
            raise no((*here, "wrapped"), f"zone `{endpoint.zone}` enforces", "wrap in a zone in observe, then list routes and adopt it")
        for route_number, route in enumerate(endpoint.routes):
            if not _is_template(route.path):
                raise no((*here, "routes", route_number, "path"), f"`{route.path}` is not a path template", "write /v2/models/{name}/infer")
        if endpoint.asset and endpoint.asset not in {f"{one.kind}/{one.name}" for one in settings.assets}:
            raise no((*here, "asset"), f"`{endpoint.asset[:64]}` is none of [[assets]]", "add it there, with the zones where it lies")
        if endpoint.asset and (endpoint.model_in_body or endpoint.mcp or endpoint.wrapped):
            raise no(
                (*here, "asset"), "the body, or nothing, says what is asked for here", "remove `asset`, or give it an endpoint of its own"
            )
        _check_models(endpoint, here, names, no)


def _check_models(endpoint: EndpointSettings, here: Keys, names: dict[str, EndpointSettings], no: Any) -> None:
    if endpoint.models and not endpoint.model_in_body:
        raise no((*here, "models"), "only with `model_in_body = true`", "set it, or remove `models`")
    if endpoint.model_in_body and not endpoint.models:
        raise no((*here, "model_in_body"), "`models` is missing", "list the names that may be asked for, each with its endpoint")
    for model, target in endpoint.models.items():
        if target not in names:
            raise no((*here, "models"), f"`{model[:64]}` stands for `{target[:64]}`, which is no endpoint", _nearest(target, names))


def _is_template(path: str) -> bool:
    return (
        all(re.fullmatch(r"[A-Za-z0-9._-]+|\{[a-z_]+\}", part) and part not in (".", "..") for part in path[1:].split("/")) or path == "/"
    )


def _check_upstream(upstream: str, where: Keys, names: dict[str, EndpointSettings], no: Any) -> None:
    scheme, _, rest = upstream.partition(":")
    remedy = "write tcp:127.0.0.1:9000, unix:/path/to.sock or server:<endpoint>"
    if scheme == "server":
        if rest not in names or not names[rest].command:
            raise no(where, f"no endpoint `{rest[:64]}` starts a server", remedy)
    elif scheme == "unix":
        if not rest.startswith("/") or len(rest) > 107:
            raise no(where, "a socket path is absolute and at most 107 bytes (unix(7))", remedy)
    elif scheme == "tcp":
        try:
            host_port(rest)
        except InvalidInput as error:
            raise no(where, error.reason, remedy) from None
    else:
        raise no(where, f"`{upstream[:80]}` is not an upstream", remedy)


def _check_sources(settings: Settings, no: Any) -> None:
    for number, one in enumerate(settings.sts.sources):
        here = ("sts", "sources", number)
        if one.name in [other.name for other in settings.sts.sources[:number]]:
            raise no((*here, "name"), "it is used twice", "each must be its own")
        if one.keys_url and one.keys_file:
            raise no((*here, "keys_url"), "`keys_file` names its keys already", "set one of the two")
        if one.keys_url and not one.keys_url.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
            raise no(
                (*here, "keys_url"), f"`{one.keys_url[:80]}` is not an address", "write https://name/path; http is for this machine alone"
            )


def _check_twice(settings: Settings, no: Any) -> None:
    groups: list[tuple[str, str, list[Any]]] = [
        ("endpoints", "name", [endpoint.name for endpoint in settings.endpoints]),
        ("endpoints", "uid_offset", [endpoint.uid_offset or None for endpoint in settings.endpoints]),
        ("endpoints", "prefix", [(e.host, e.prefix) if e.wrapped else None for e in settings.endpoints]),
        ("secrets", "name", [secret.name for secret in settings.secrets]),
        ("identities", "name", [(identity.kind, identity.zone, identity.name) for identity in settings.identities]),
        ("administrators", "uid", [administrator.uid for administrator in settings.administrators]),
        ("administrators", "name", [administrator.name for administrator in settings.administrators]),
    ]
    for table, key, values in groups:
        for number, value in enumerate(values):
            if value is not None and value in values[:number]:
                raise no((table, number, key), "it is used twice", "each must be its own")
    routes: set[tuple[str, str, str]] = set()
    for number, endpoint in enumerate(settings.endpoints):
        for route_number, route in enumerate(endpoint.routes):
            at = (endpoint.host, route.method, endpoint.prefix + re.sub(r"\{[a-z_]+\}", "{}", route.path))
            if at in routes:
                raise no(("endpoints", number, "routes", route_number), "another route has this method and path", "set `host` or `prefix`")
            routes.add(at)
        if 0 < endpoint.uid_offset < FIRST_SERVER_OFFSET:
            raise no(("endpoints", number, "uid_offset"), "below 10 are vouchgate's own processes", "use 10 or more, or leave it out")


def _beside(path: Path, folder: str) -> Path:
    parts: list[str] = []
    for part in (path.parent / folder).parts:
        if part == ".." and parts and parts[-1] not in ("/", ".."):
            parts.pop()
        else:
            parts.append(part)
    return Path(*parts)


def _absolute(settings: Settings, path: Path) -> Settings:
    def at(folder: str) -> str:
        return str(_beside(path, folder)) if folder else ""

    return msgspec.structs.replace(
        settings,
        data_dir=at(settings.data_dir),
        root_dir=at(settings.root_dir),
        policies=tuple(msgspec.structs.replace(policy, path=at(policy.path)) for policy in settings.policies),
        endpoints=tuple(
            msgspec.structs.replace(endpoint, model=at(endpoint.model), folder=at(endpoint.folder or "."))
            for endpoint in settings.endpoints
        ),
        **absolute_people(settings.oidc, settings.ssf, at),
        federation=absolute_federation(settings.federation, at),
        **absolute_signers(settings.signers, settings.builders, at),
        applications=absolute_applications(settings.applications, at),
        egress=tuple(msgspec.structs.replace(one, ca_file=at(one.ca_file)) for one in settings.egress),
        sts=msgspec.structs.replace(
            settings.sts,
            web_certificate=at(settings.sts.web_certificate),
            web_key=at(settings.sts.web_key),
            sources=tuple(
                msgspec.structs.replace(one, keys_file=at(one.keys_file), ca_file=at(one.ca_file)) for one in settings.sts.sources
            ),
        ),
        **absolute_keys(settings.keys, at),
    )
