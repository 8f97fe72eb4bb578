"""The signer's options about where keys lie, and its acts on them.

    [--place file|encrypted|token] [--secret-fd N] [--remember] [--module PATH --token LABEL]
    [--move-from PLACE [--old-secret-fd N] [--generate] | --change-passphrase --old-secret-fd N | --forget | --try-pin]

An act is done instead of serving: `--move-from` moves the keys from there to `--place`, `--change-passphrase` replaces the passphrase behind
`--old-secret-fd` by the one behind `--secret-fd`, `--forget` empties the kernel's keyring, `--try-pin` lets one PIN be tried again.
A descriptor is a number; what is behind it is never named here.
"""

from __future__ import annotations

import argparse
from typing import get_args

from vouchgate import wiring
from vouchgate.edges.processes.signer_keys import Files
from vouchgate.edges.processes.signer_place import Access, PlaceName, Places
from vouchgate.vocabulary.errors import Conflict, InvalidInput


def add_key_options(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    parser.add_argument("--place", choices=get_args(PlaceName), default="file", help="where the keys lie")
    parser.add_argument("--secret-fd", type=int, default=-1, metavar="N", help="descriptor of the passphrase or PIN")
    parser.add_argument("--remember", action="store_true", help="keep the unlocking key in the kernel's keyring")
    parser.add_argument("--module", default="", help="PKCS #11 module")
    parser.add_argument("--token", default="", help="label of the token")
    parser.add_argument("--move-from", choices=get_args(PlaceName), default="", help="move the keys from there to --place")
    parser.add_argument("--old-secret-fd", type=int, default=-1, metavar="N", help="descriptor of the passphrase that holds now")
    parser.add_argument("--generate", action="store_true", help="with --move-from: make all keys anew in their new place")
    parser.add_argument("--change-passphrase", action="store_true", help="replace the passphrase")
    parser.add_argument("--forget", action="store_true", help="empty the kernel's keyring")
    parser.add_argument("--try-pin", action="store_true", help="let one PIN be tried again")


def access_of(options: argparse.Namespace) -> Access:
    """How the keys are opened. Raises `InvalidInput`."""
    if options.place == "token" and not (options.module and options.token):
        raise InvalidInput("a token needs --module and --token", remedy="set `[keys] module` and `[keys] token`")
    return Access(options.place, options.secret_fd, options.remember, options.module, options.token)


def places_of(files: Files, trust_domain: str) -> Places:
    """The places of a folder, which is held to its rules first."""
    files.before(trust_domain)
    return Places(files.folder, files.keys, trust_domain)


def act(options: argparse.Namespace, files: Files) -> bool:
    """Do what was asked instead of serving; whether anything was."""
    if not (options.move_from or options.change_passphrase or options.forget or options.try_pin):
        return False
    places = places_of(files, options.trust_domain)
    old = Access("encrypted", options.old_secret_fd, options.remember)
    if options.try_pin:
        places.try_pin()
    elif options.forget:
        places.forget()
    elif options.change_passphrase:
        places.change_passphrase(old, access_of(options))
    else:
        _move(options, files, places)
    return True


def _move(options: argparse.Namespace, files: Files, places: Places) -> None:
    before = files.before(options.trust_domain)
    if options.generate and (len(before.ca.roots) > 1 or any(root.upstream for root in before.ca.roots)):
        raise Conflict("there are other CAs than the first", remedy="retire them first: `vouchgate admin`")
    lies = places.lies() or "file"
    if lies != options.move_from:
        raise Conflict(f"the keys lie in place `{lies}`", remedy=f"move them from `{lies}`")
    store = places.move(Access(lies, options.old_secret_fd, options.remember), access_of(options), generate=options.generate)
    if options.generate:
        files.open(options.trust_domain, wiring.clock().now(), renew_ca=True, store=store, remake=True)
        places.made(store)
