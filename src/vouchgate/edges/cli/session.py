"""What a command is given: its settings, the client, and a printer. Found only when asked for, so that `--help` reads nothing."""

from __future__ import annotations

import argparse
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vouchgate.edges.cli.printing import Printer
from vouchgate.vocabulary.errors import InvalidSettings, NotFound

if TYPE_CHECKING:
    from vouchgate.edges.cli.client import Client
    from vouchgate.vocabulary.settings import Settings

SETTINGS_FILE = "vouchgate.toml"


class Session:
    """One run of the command line."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.as_json = bool(options.json)
        self.printer = Printer(sys.stdout, colors=sys.stdout.isatty() and not options.no_color)

    @cached_property
    def settings_path(self) -> Path:
        """The settings file, named or found here or above. Raises `NotFound`."""
        if self._options.config:
            return Path(self._options.config).absolute()
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / SETTINGS_FILE).is_file():
                return folder / SETTINGS_FILE
        raise NotFound(f"there is no {SETTINGS_FILE} here or above", remedy="make one with `vouchgate init`, or name it with --config")

    @cached_property
    def settings(self) -> Settings:
        """The settings, read now. Raises `InvalidSettings`."""
        from vouchgate.vocabulary.settings_file import parse_settings

        path = self.settings_path
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSettings(f"`{path}` cannot be read: {error}", remedy="make one with `vouchgate init`") from None
        return parse_settings(text, path)

    @cached_property
    def api(self) -> Path:
        """The control plane's socket."""
        from vouchgate.vocabulary.layout import Layout

        return Path(self._options.socket) if self._options.socket else Layout(Path(self.settings.data_dir)).api_socket

    @property
    def artifacts(self) -> Path:
        """The content store, which lies beside the socket."""
        return self.api.resolve().parent / "artifacts"

    @cached_property
    def logged_in(self) -> str:
        """Token of the login that is kept for this control plane, or nothing."""
        from vouchgate.edges.cli.logins import kept

        found = kept(self.api)
        return found.token if found else ""

    @cached_property
    def client(self) -> Client:
        """The control plane, as whoever is logged in, else as the unix user."""
        from vouchgate.edges.cli.client import Client

        return Client(self.api, bearer=self.logged_in)

    @cached_property
    def plain_client(self) -> Client:
        """The control plane, as the unix user."""
        from vouchgate.edges.cli.client import Client

        return Client(self.api)

    def ask(self, question: str) -> str:
        """One line from a person."""
        return input(f"{question}: ")

    def json(self, answer: Any) -> bool:
        """Print the answer as JSON where that was asked for; whether it was."""
        if self.as_json:
            from vouchgate.vocabulary.wire import encode

            self.printer.line(encode(answer).decode())
        return self.as_json

    def confirmed(self, question: str) -> bool:
        """Ask a person; without a terminal the answer is no."""
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            return False
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
