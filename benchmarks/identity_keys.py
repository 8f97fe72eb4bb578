"""What each place of the signer's keys costs: certificates and tokens a second, signatures of the bare place, and the start.

One event loop, one signer (flows/sign.py, its rate limits lifted), `AT_ONCE` requests at a time, rounds of the places taken in turns so that a
slower moment of the machine falls on all. The token is SoftHSM2, in files of its own; a hardware token's own time comes on top.

Usage: python -m benchmarks.identity_keys [--quick]
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rows import Row, emit, median_interval
from vouchgate import wiring
from vouchgate.edges.processes.signer_keys import Files
from vouchgate.edges.processes.signer_place import Access as PlaceAccess
from vouchgate.edges.processes.signer_place import Places, Store
from vouchgate.flows import sign
from vouchgate.identity.ca import spki_of

TD = "bench.local"
AT_ONCE = 16
"""Requests in flight: the control plane's batch on a busy second."""
MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so")
PIN, PASSPHRASE = b"1234", b"correct horse battery staple"
PLACES = ("file", "encrypted", "token")


def handed(secret: bytes) -> int:
    """A descriptor that holds a secret."""
    descriptor = os.memfd_create("secret")
    os.write(descriptor, secret)
    return descriptor


def token_of(folder: Path) -> str:
    """A module with a token `bench` in it, or nothing where SoftHSM2 is not installed."""
    module = next((path for path in MODULES if Path(path).exists()), "")
    if not module or shutil.which("softhsm2-util") is None:
        return ""
    tokens = folder / "tokens"
    tokens.mkdir()
    config = folder / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(config)
    words = ["softhsm2-util", "--init-token", "--free", "--label", "bench", "--pin", PIN.decode(), "--so-pin", "12345678"]
    subprocess.run(words, check=True, capture_output=True)
    return module


async def signer_at(folder: Path, access: PlaceAccess) -> tuple[sign.Signer, Store, float]:
    """(signer, its store, milliseconds that opening the keys takes); a process of its own makes them first."""
    words = ["--dir", str(folder), "--control-uid", "0", "--trust-domain", TD, "--init-only", "--place", access.place]
    words += ["--module", access.module, "--token", access.token] if access.module else []
    words += ["--secret-fd", str(access.secret)] if access.secret >= 0 else []
    handed_down = (access.secret,) if access.secret >= 0 else ()
    subprocess.run([*wiring.python("vouchgate.edges.processes.signer"), *words], check=True, pass_fds=handed_down, capture_output=True)
    begun = time.perf_counter()
    files = Files(folder)
    files.before(TD)
    store = Places(files.folder, files.keys, TD).open(access, first=files.first)
    keys, before = files.open(TD, wiring.clock().now(), store=store)
    took = (time.perf_counter() - begun) * 1000
    signer = sign.Signer(keys, before, sign.Access(control=0), wiring.clock(), files, ca_keys=store)
    await signer.start()
    return signer, store, took


async def rate(ask: Callable[[], Awaitable[object]], count: int) -> float:
    """Answers a second."""
    begun = time.perf_counter()
    for _ in range(count // AT_ONCE):
        await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    return count // AT_ONCE * AT_ONCE / (time.perf_counter() - begun)


async def measure(folder: Path, *, rounds: int, count: int) -> list[Row]:
    module = token_of(folder)
    accesses = {
        "file": PlaceAccess("file"),
        "encrypted": PlaceAccess("encrypted", handed(PASSPHRASE)),
        "token": PlaceAccess("token", handed(PIN), module=module, token="bench"),
    }
    places = [place for place in PLACES if place != "token" or module]
    made = {place: await signer_at(folder / place, accesses[place]) for place in places}
    spki = spki_of(ec.generate_private_key(ec.SECP256R1()).public_key())
    name = f"spiffe://{TD}/service/prod/a"
    kinds: dict[str, Callable[[sign.Signer], Callable[[], Awaitable[object]]]] = {
        "certificates": lambda signer: lambda: signer.x509_svid(0, {"spki": spki, "principal": name, "ttl_seconds": 600}),
        "tokens": lambda signer: lambda: signer.jwt_svid(0, {"principal": name, "audience": "a", "ttl_seconds": 60}),
    }
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for kind, asks in kinds.items():
            for place in places:
                rates.setdefault((kind, place), []).append(await rate(asks(made[place][0]), count))
    rows = []
    for (kind, place), values in rates.items():
        ratio = statistics.median(values) / statistics.median(rates[kind, "file"])
        rows.append(
            Row(
                name=f"{kind} a second, keys in place `{place}`",
                value=statistics.median(values),
                unit="1/s",
                n=rounds * count,
                interval=median_interval(values),
                note="" if place == "file" else f"{ratio:.2f} of what files give; {AT_ONCE} at once",
            )
        )
    for place in places:
        rows.append(Row(name=f"opening the keys, place `{place}`", value=made[place][2], unit="ms", n=1, note="once a start"))
    if not module:
        sys.stdout.write("SoftHSM2 is not installed: no row of the token\n")
    return rows


def main(arguments: list[str]) -> int:
    """0; there is no goal of its own (docs/figures.md holds the issuance's)."""
    logging.disable(logging.CRITICAL)
    sign.RATES.update({"x509": (1e9, 1e9), "jwt": (1e9, 1e9)})
    quick = "--quick" in arguments
    build = Path(__file__).resolve().parents[1] / "build"
    build.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="keys-", dir=build))
    try:
        rows = asyncio.run(measure(folder, rounds=3 if quick else 9, count=320 if quick else 1600))
    finally:
        shutil.rmtree(folder)
    emit("identity_keys", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
