"""Writes the pages that are made from the code: docs/catalog.md, docs/imports.md, docs/settings.md, docs/api.md.

    python docs/generate.py            write them
    python docs/generate.py --check    exit 1 with a diff where one is stale

Rules
1. A page depends on the code alone: no time, no machine, no count that changes with every commit.
2. What a page says of a plug-in, key or route stands in that plug-in, key or route.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import grimp
import msgspec
from starlette.routing import Route

from vouchgate.compliance.catalog import frameworks
from vouchgate.edges.api.app import ACTS, READS, Api
from vouchgate.edges.api.surface import Surface
from vouchgate.policy.catalog import packs
from vouchgate.vocabulary.settings_template import known_keys

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
HEAD = "<!-- Written by `python docs/generate.py` from the code. Change the code, then run `make docs`. -->\n\n"
PACKAGE = "vouchgate"

CATALOGS = (
    ("Attestors", "identity.attestors", "ATTESTOR", "what is known of a workload becomes selectors that earn an identity"),
    ("Formats", "scanning.formats", "NAME", "artifacts that can be read without running them"),
    ("Predicates", "evidence.predicates", "PREDICATE", "what a vouch may state, and which role may sign it"),
    ("Detectors", "behaviour.detectors", "DETECTOR", "what is not normal, with a bound on false alarms"),
    ("Actions", "response.actions", "ACTION", "what can be planned about a finding"),
    ("Keepers", "protection.keepers", "KEEPER", "how a data key is wrapped"),
    (
        "Rotators",
        "protection.rotators",
        "ROTATOR",
        "how a credential of somebody else's system is made, proved, retired and shown to be dead",
    ),
    ("Audit exporters", "audit.exporters", "NAME", "the log for other systems"),
    ("Network exporters", "segmentation.exporters", "EXPORTER", "zones for networks that are not ours"),
    ("Finders", "inventory.finders", "FINDER", "AI assets told from facts"),
)
"""Title, folder, the name that makes a file a plug-in, one line."""


SPECIAL = {
    "GET /api/v1/decisions/live": ("", "server-sent events, each a `DecisionLine`"),
    "PUT /api/v1/artifacts": ("query **name**, **zone**, declare; the body is the file", "`ImportOutcome`"),
    "POST /api/v1/backup": ("only on the unix socket", "the file; `BackupOutcome` in the header `vouchgate-outcome`"),
    "POST /api/v1/session": ("**code**", "`LoggedIn`, and a cookie"),
    "GET /api/v1/session": ("", "`LoggedIn`"),
    "DELETE /api/v1/session": ("", "an empty object"),
    "GET /healthz": ("", "`ok` while the process lives"),
    "GET /readyz": ("", "`Readiness`; 503 where a part is not ready"),
    "GET /metrics": ("", "Prometheus text"),
    "GET /": ("", "the console"),
    "GET /login": ("", "the console's first page"),
    "GET /assets/{name}": ("", "the console's files"),
    "GET /login/callback": ("what a provider's redirect carries; the page hands it in", "the console's first page"),
    "GET /api/v1/login": ("", "`LoginProvider` (list); needs no session"),
    "POST /api/v1/login/begin": ("**provider**; redirect_uri on the unix socket", "`LoginBegun`; to a browser its address and a cookie"),
    "POST /api/v1/login/finish": ("**state**, code, iss, error; binding on the unix socket", "`LoggedIn`, and a cookie or a token"),
    "GET /api/v1/whoami": ("", "`LoggedIn`"),
}
"""Routes that are not one noun in, one noun out."""


def main(arguments: list[str]) -> int:
    """Write, or check; the exit code."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    pages = {name: HEAD + make() for name, make in PAGES.items()}
    if not arguments:
        for name, text in pages.items():
            (DOCS / name).write_text(text, encoding="utf-8")
        return 0
    stale = list(differences(pages))
    sys.stdout.writelines(line + "\n" for line in stale)
    if stale:
        sys.stdout.write("these pages are stale: run `make docs`\n")
    return 1 if stale else 0


def differences(pages: dict[str, str]) -> Iterator[str]:
    """A unified diff of what stands in docs/ and what should."""
    for name, text in pages.items():
        path = DOCS / name
        old = path.read_text("utf-8").splitlines() if path.exists() else []
        yield from difflib.unified_diff(old, text.splitlines(), f"docs/{name}", f"docs/{name} (from the code)", lineterm="")


def catalog() -> str:
    """Every plug-in of every catalog."""
    parts = ["# Plug-ins\n\nAdding one needs one file in the folder named here, and nothing else; two of one name are refused.\n"]
    for title, folder, constant, told in CATALOGS:
        parts.append(f"\n## {title}\n\n{_sentence(told)} Folder `src/{PACKAGE}/{folder.replace('.', '/')}/`.\n\n")
        parts.append(_table(("name", "version", "what it is", "file"), plugins(folder, constant)))
    parts.append(f"\n## Policy packs\n\nCedar policies that come with it. Folder `src/{PACKAGE}/policy/packs/`.\n\n")
    parts.append(_table(("name", "what it is", "file"), ((name, _pack_line(name), f"`{name}.cedar`") for name in packs())))
    parts.append(f"\n## Frameworks\n\nControls held against the log. Folder `src/{PACKAGE}/compliance/frameworks/`.\n\n")
    rows = ((one.name, one.title, str(len(one.controls)), one.source) for one in frameworks().values())
    parts.append(_table(("name", "what it is", "controls", "source"), rows))
    return "".join(parts)


def plugins(folder: str, constant: str) -> Iterator[tuple[str, ...]]:
    """Name, version, one line and file of each plug-in of a folder."""
    package = importlib.import_module(f"{PACKAGE}.{folder}")
    for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        module = importlib.import_module(f"{package.__name__}.{found.name}")
        plugin: Any = getattr(module, constant)
        name = plugin if isinstance(plugin, str) else plugin.name
        version = str(getattr(plugin, "version", getattr(module, "VERSION", "")))
        summary = getattr(plugin, "summary", "") or _first_sentence(module.__doc__ or "")
        yield name, version, summary, f"`{found.name}.py`"


def _pack_line(name: str) -> str:
    text = (ROOT / "src" / PACKAGE / "policy" / "packs" / f"{name}.cedar").read_text("utf-8")
    first = text.split("\n", 1)[0]
    return first.removeprefix("//").strip() if first.startswith("//") else ""


def imports() -> str:
    """Which part imports which, drawn from what the files really import."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"][0]
    layers = [[part.strip() for part in layer.split("|")] for layer in contract["layers"]]
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    parts = {part for layer in layers for part in layer}
    edges = {
        (_part(importer), _part(imported)) for importer in graph.modules for imported in graph.find_modules_directly_imported_by(importer)
    }
    drawn = sorted((a, b) for a, b in edges if a != b and a in parts and b in parts and b != layers[-1][0])
    lines = ["flowchart TB"]
    for number, layer in enumerate(layers):
        lines += [f"  subgraph layer{number} [ ]", "    direction LR", *(f"    {part}" for part in layer), "  end"]
    lines += [f"  {a} --> {b}" for a, b in drawn]
    return (
        "# Imports\n\nEach arrow is an import that some file makes; a part imports only what stands below it, and `lint-imports` holds that.\n"
        f"Every part may import `{layers[-1][0]}`, whose arrows are left out. What each part is for: [architecture](architecture.md).\n\n"
        "```mermaid\n" + "\n".join(lines) + "\n```\n"
    )


def _part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def settings() -> str:
    """Every key of vouchgate.toml."""
    out = ["# vouchgate.toml\n\n`vouchgate init` writes the file with every key commented; `vouchgate config check` reads it.\n"]
    table: str | None = None
    rows: list[tuple[str, ...]] = []
    for key in [*known_keys(), None]:
        if key is None or key.table != table:
            if rows:
                out.append(_table(("key", "default", "meaning"), rows))
            if key is None:
                break
            table, rows = key.table, []
            out.append(f"\n## {_heading(key.table)}\n\n")
        rows.append((f"`{key.name}`", f"`{key.default}`" if key.default else "must be given", key.meaning))
    return "".join(out)


def _heading(table: str) -> str:
    return f"`[{table}]`" if table else "At the top"


def api() -> str:
    """Every route of the HTTP API."""
    told = {f"GET {path}": (_takes(kind), _answers(ask)) for path, kind, ask in READS}
    told |= {f"POST {path}": (_takes(kind), _answers(ask)) for path, kind, ask in ACTS} | SPECIAL
    handlers = Api(None, None, Path(), 0, 0, lambda: 0.0)  # type: ignore[arg-type]  # routes are listed, none is called
    rows = []
    for route in handlers.routes():
        assert isinstance(route, Route)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            named = f"{method} {route.path}"
            if named not in told:
                raise SystemExit(f"docs/generate.py: say in SPECIAL what `{named}` takes and answers")
            rows.append((f"`{named}`", *told[named]))
    return (
        "# HTTP API\n\nOn the unix socket `control/api.sock`, where the kernel says who asks, and on the console's loopback address with a\n"
        "session. A GET takes query parameters, a POST a JSON body; fields in bold must be given, unknown ones are refused. An answer is the\n"
        "JSON of the noun named; an error is a problem document (RFC 9457).\n\n" + _table(("route", "takes", "answers"), rows)
    )


def _takes(kind: type | None) -> str:
    if kind is None:
        return ""
    fields = msgspec.structs.fields(kind)
    return ", ".join(f"**{field.name}**" if field.required else field.name for field in fields)


def _answers(ask: Callable[..., Any] | None) -> str:
    """The noun that the surface's method answers with; a handler asks exactly one, or two that answer alike."""
    named = [name for name in ask.__code__.co_names if name in vars(Surface)] if ask else []
    if not named:
        return ""
    answer = get_type_hints(vars(Surface)[named[0]])["return"]
    inner = getattr(answer, "__args__", (answer,))[0]
    return f"`{inner.__name__}`" + (" (list)" if inner is not answer else "")


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _first_sentence(text: str) -> str:
    first = " ".join(text.strip().split("\n\n")[0].split())
    return first[:1] + first[1:].removesuffix(".")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


PAGES: dict[str, Callable[[], str]] = {"catalog.md": catalog, "imports.md": imports, "settings.md": settings, "api.md": api}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
