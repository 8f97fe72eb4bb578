"""`vouchgate init`: a commented vouchgate.toml, the keys and the store."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.secret import ask_secret
from vouchgate.edges.cli.session import SETTINGS_FILE, Session
from vouchgate.vocabulary.errors import Conflict

SUMMARY = "make vouchgate.toml, the keys and the store"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument(
        "--trust-domain", default="example.local", help="the tenant: part of every name, not changed later (default: example.local)"
    )
    parser.add_argument("--data-dir", default="data", help="everything vouchgate keeps (default: data)")
    parser.add_argument("--root-dir", default="root", help="the offline root key, outside the data directory (default: root)")
    parser.add_argument("--solo", action="store_true", help="one person may author and approve the same change; said on every page")
    parser.add_argument("--settings-only", action="store_true", help="write vouchgate.toml and stop")


def run(session: Session, options: argparse.Namespace) -> int:
    """Existing settings are used, not overwritten."""
    from vouchgate.vocabulary.settings_file import parse_settings
    from vouchgate.vocabulary.settings_template import settings_template

    path = Path(options.config or SETTINGS_FILE).absolute()
    show = session.printer
    if path.exists() and options.settings_only:
        raise Conflict(f"`{path}` is there already", remedy="edit it, or name another with --config")
    if not path.exists():
        text = settings_template(trust_domain=options.trust_domain, data_dir=options.data_dir, root_dir=options.root_dir, solo=options.solo)
        parse_settings(text, path)
        path.write_text(text, encoding="utf-8")
        if not options.json:
            show.marked("good", f"wrote {path}")
    if options.settings_only:
        return 0
    settings = parse_settings(path.read_text(encoding="utf-8"), path)

    made = installation().init(settings, path, ask_secret)
    if session.json(made):
        return 0
    show.marked("good", f"made keys and store in {made.data_dir}")
    show.field(
        "root key",
        made.root_dir,
        f"fingerprint {made.root_fingerprint}",
        "move it to another medium; it is needed only to change who may vouch",
    )
    if made.bootstrap_token:
        show.field("first", "become the first administrator within 10 minutes of starting:")
        show.command("", "vouchgate up")
        show.command("", f"vouchgate admin claim {made.bootstrap_token}")
    if made.solo:
        show.marked("warn", "solo: one person may author and approve the same change; every page says so")
    return 0
