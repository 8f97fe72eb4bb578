"""The signer process: alone holds private keys, and answers on `DIR/signer.sock`.

    python -m vouchgate.edges.processes.signer --dir DIR --control-uid N --trust-domain TD [--allow PURPOSE=UID ...] [--solo]
                                               [--renew-ca] [--replace-key NAME ...] [--init-only] [where keys lie: signer_options.py]

Methods (params -> answer; all values plain MessagePack; the shapes are flows/sign.py's)
    public_keys  {}                                             -> {trust_domain, keys: [PublicKey plain], x509_ca: der, x509_ca_not_after,
                                                                    x509_authorities: [der]}
    health       {}                                             -> {ok, now, clock_trouble, ca_expired, ca_notice, policy_version, refused,
                                                                    keys_place, keys_trouble}
    x509_svid    {spki, principal, ttl_seconds, dns?, binding?} -> {chain: [der], serial, thumbprint, not_before, not_after}
    x509_svids   {requests: [params of x509_svid]}              -> [its answer, or {code, reason, remedy}]; 256 at most
    crl          {serials: [hex], number}                       -> {crl: der of the current issuer, crls: [der], number, next_update}
    ca           {}                                             -> {roots: [{number, status, since, upstream, key_id, fingerprint,
                                                                    not_after}], issuer: {number, root, begins, ends}, notice}
    ca_step      {step: prepare|activate|retire|abandon|issuer, force?} -> that of `ca`
    ca_request   {}                                             -> {csr: der}
    ca_install   {chain: [der], root_fingerprint: hex}          -> that of `ca`, and warnings: [text]
    jwt_svid     {principal, audience, ttl_seconds, cnf_x5t?}   -> {token, jti, expires_at}
    event_token  {event, issuer, audience, jti, principal?, sub?, sub_issuer?, credential?, reason?, at?, state?} -> {token}
    vouch        {role, predicate_type, predicate_version, subjects, outcome, not_before, expires_at, rests_on?, tier, method, claims?}
                                                                -> {envelope, id}
    checkpoint   {origin, size, root_hash}                      -> the signed note's text
    policy       {version, policy_digest, author, approver}     -> {envelope, key_id}
    accept_clock {}                                             -> {now}

Rules
1. No core dump, not dumpable: neither a crash nor another process of the same uid reads a key (prctl(2), PR_SET_DUMPABLE).
2. The socket takes frames of the listed uids alone; `public_keys` and `health` also of uid 0, which starts the tree.
3. A machine whose clock is behind what was signed last issues nothing until a person accepts the clock.
4. `--allow PURPOSE=UID` takes a purpose away from the control plane and gives it to that uid: `x509`, `jwt`, `crl`, `ca`, `checkpoint`,
   `policy`, `vouch:<role>`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from vouchgate import wiring
from vouchgate.edges.processes.logs import set_up
from vouchgate.edges.processes.rpc_server import Handler, Peer, serve
from vouchgate.edges.processes.signer_keys import Files
from vouchgate.edges.processes.signer_options import access_of, act, add_key_options, places_of
from vouchgate.edges.processes.signer_place import Store
from vouchgate.edges.processes.signer_secret import lock_memory
from vouchgate.edges.processes.withhold import withhold_memory
from vouchgate.flows.sign import ROLES, Access, Signer
from vouchgate.flows.x509_authority import ISSUER_SECONDS
from vouchgate.vocabulary.errors import InvalidInput, NotPermitted, VouchgateError

PURPOSES = frozenset({"x509", "jwt", "set", "crl", "ca", "checkpoint", "policy", *(f"vouch:{role}" for role in ROLES)})
OPEN_TO_ROOT = frozenset({"public_keys", "health"})

log = logging.getLogger("vouchgate.signer")


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal; the exit code is the error's."""
    options = _options(argv)
    set_up("signer")
    try:
        withhold_memory()
        asyncio.run(run(options))
    except VouchgateError as error:
        log.error("%s; %s", error.reason, error.remedy)
        return error.exit_code
    except OSError as error:
        log.error("the signer's folder cannot be used: %s", error.strerror)
        return 3
    return 0


async def run(options: argparse.Namespace) -> None:
    """Load the keys and serve until SIGTERM or SIGINT."""
    os.umask(0o077)
    files = Files(options.dir)
    if act(options, files):
        return
    places = places_of(files, options.trust_domain)
    store = places.open(access_of(options), first=files.first)
    now, remake = wiring.clock().now(), places.remaking()
    keys, before = files.open(
        options.trust_domain, now, renew_ca=options.renew_ca or remake, replace=options.replace_key, store=store, remake=remake
    )
    places.made(store)
    if options.secret_fd >= 0 and store.place != "token":
        # a token that comes back is given its PIN again; a passphrase has done its work
        os.close(options.secret_fd)
    memory = lock_memory()
    access = Access(control=options.control_uid, own=_allowed(options.allow))
    signer = Signer(
        keys, before, access, wiring.clock(before.at), files, solo=options.solo, ca_keys=store, issuer_seconds=options.issuer_seconds
    )
    if options.renew_ca:
        await signer.renew_ca()
    if options.init_only:
        return
    await signer.start()
    server = await serve(
        options.dir / "signer.sock", handlers(signer, access, store), allowed_uids=lambda uid: uid == 0 or access.knows(uid)
    )
    ours = (options.dir / "signer.sock").stat().st_ino
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    log.info("ready with %d keys in place `%s`; %s", len(keys.ed25519) + 2, store.place, memory)
    await stop.wait()
    server.close()
    with contextlib.suppress(FileNotFoundError):
        # a signer that was started meanwhile has put its own there
        if (options.dir / "signer.sock").stat().st_ino == ours:
            (options.dir / "signer.sock").unlink()


def handlers(signer: Signer, access: Access, store: Store) -> dict[str, Handler]:
    """Methods by name, each told who asks; `health` says too where the keys lie, and what keeps them from signing."""

    def handler(name: str, method: Callable[[int, dict[str, Any]], Awaitable[Any]]) -> Handler:
        async def call(peer: Peer, params: dict[str, Any]) -> Any:
            if name == "health":
                health = await _permitted(peer, params)
                if store.slow:
                    await asyncio.to_thread(store.look)
                return _with_keys(health, store)
            return await _permitted(peer, params)

        async def _permitted(peer: Peer, params: dict[str, Any]) -> Any:
            if name in OPEN_TO_ROOT and not (peer.uid == 0 or access.knows(peer.uid)):
                raise NotPermitted(f"uid {peer.uid} may not use the signer", remedy="ask through the control plane")
            return await method(peer.uid, params)

        return call

    names = ("public_keys", "health", "x509_svid", "x509_svids", "jwt_svid", "vouch", "checkpoint", "policy", "accept_clock",
             "crl", "ca", "ca_step", "ca_request", "ca_install", "event_token")  # fmt: skip
    return {name: handler(name, getattr(signer, name)) for name in names}


def _with_keys(health: dict[str, Any], store: Store) -> dict[str, Any]:
    trouble = store.trouble
    return {**health, "ok": health["ok"] and not trouble, "keys_place": store.place, "keys_trouble": trouble}


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vouchgate.edges.processes.signer", description="Holds the private keys and signs.")
    parser.add_argument("--dir", type=Path, required=True, help="folder of the signer; keys are made in it at the first start")
    parser.add_argument("--control-uid", type=int, required=True, help="uid of the control plane")
    parser.add_argument("--trust-domain", required=True)
    parser.add_argument("--allow", action="append", default=[], metavar="PURPOSE=UID", help="who alone may use a purpose")
    parser.add_argument("--solo", action="store_true", help="one person may author and approve a policy")
    parser.add_argument("--issuer-seconds", type=int, default=ISSUER_SECONDS, help="life of the issuers under the CA")
    parser.add_argument("--renew-ca", action="store_true", help="make a new CA certificate for the same key, then go on")
    parser.add_argument(
        "--replace-key", action="append", default=[], metavar="NAME", help="make a key anew that was stolen; see docs/threat-model.md"
    )
    parser.add_argument("--init-only", action="store_true", help="make or check the keys and end")
    add_key_options(parser)
    return parser.parse_args(argv)


def _allowed(given: Sequence[str]) -> dict[str, frozenset[int]]:
    own: dict[str, frozenset[int]] = {}
    for text in given:
        purpose, _, uid = text.partition("=")
        if purpose not in PURPOSES or not uid.isascii() or not uid.isdigit():
            raise InvalidInput(f"`{text[:80]}` is not PURPOSE=UID", remedy=f"the purposes are {', '.join(sorted(PURPOSES))}")
        own[purpose] = own.get(purpose, frozenset()) | {int(uid)}
    return own


if __name__ == "__main__":
    raise SystemExit(main())
