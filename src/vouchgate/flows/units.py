"""What the process tree consists of: settings in, processes to start out.

Rules
1. The rank says who ends first: the gateway, then the model servers, then what records and decides, then the signer.
2. A command line holds paths, numbers and public keys; never a secret.
"""

from __future__ import annotations

from collections.abc import Callable

from vouchgate.vocabulary.layout import Layout, Users
from vouchgate.vocabulary.processes import Spec
from vouchgate.vocabulary.settings import FIRST_SERVER_OFFSET, EndpointSettings, Settings

RANKS = {"signer": 0, "witness": 1, "control": 2, "pdp": 3, "tailer": 4, "server": 5, "gateway": 6, "agent": 5, "sts": 5}
"""Ending order, highest first."""
SERVES_SECONDS = 900
"""Life of a `serves` vouch; renewed at a third of it."""
GATEWAY_FILES = 65_536
"""Descriptors of the gateway: two for each connection."""
AGENT_FILES = 16_384
"""Descriptors of the agent: a connection and a pidfd for each caller."""

STS_FILES = 16_384
"""Descriptors of the token service: connections that never finish their handshake hold one for its few seconds."""

PythonCommand = Callable[..., tuple[str, ...]]
"""`ports.processes.python`."""


def core_specs(
    settings: Settings, layout: Layout, users: Users, python: PythonCommand, *, log_key: str, origin: str, gateway: tuple[str, ...]
) -> list[Spec]:
    """The processes of every installation, in starting order. `gateway` is Envoy's command line."""

    def spec(name: str, argv: tuple[str, ...], **more: object) -> Spec:
        return Spec(name=name, argv=argv, uid=users.drop_to(name), **more)  # type: ignore[arg-type]

    def module(name: str, *arguments: str) -> tuple[str, ...]:
        return python(f"vouchgate.edges.processes.{name}", *arguments)

    control = str(users.of("control"))
    witness = ("--dir", str(layout.witness), "--control-uid", control, "--log-key", log_key, "--origin", origin)
    made = [
        spec("signer", signer_command(settings, layout, users, python)),
        spec("witness", module("witness", *witness)),
        spec("control", module("control", "--data-dir", str(layout.data_dir))),
        spec("pdp", module("pdp", "--data-dir", str(layout.data_dir))),
        spec("gateway", gateway, files=GATEWAY_FILES, umask=0o027),
        spec("tailer", module("tailer", "--data-dir", str(layout.data_dir))),
        spec("agent", module("agent", "--data-dir", str(layout.data_dir)), files=AGENT_FILES),
    ]
    return [*made, sts_spec(layout, users, python)] if needs_sts(settings) else made


def sts_spec(layout: Layout, users: Users, python: PythonCommand) -> Spec:
    """The token service; also started by a reload that needs it for the first time."""
    argv = python("vouchgate.edges.processes.sts", "--data-dir", str(layout.data_dir))
    return Spec(name="sts", argv=argv, uid=users.drop_to("sts"), files=STS_FILES)


def needs_sts(settings: Settings) -> bool:
    """Whether there is anybody to serve, or anything to fetch, outside."""
    return bool(settings.oidc or settings.ssf.receivers or settings.sts.listen or settings.secrets or settings.federation)


PLACES = {"file": "file", "passphrase": "encrypted", "keyring": "encrypted", "pkcs11": "token"}
"""`[keys] place` -> the signer's `--place`."""


def signer_command(settings: Settings, layout: Layout, users: Users, python: PythonCommand, *more: str) -> tuple[str, ...]:
    """The signer's command line; `more` for a first start that only makes keys."""
    known = ("--dir", str(layout.signer), "--control-uid", str(users.of("control")), "--trust-domain", settings.trust_domain)
    solo = ("--solo",) if settings.solo else ()
    keys = settings.keys
    place = ("--place", PLACES[keys.place], *(("--remember",) if keys.place == "keyring" else ()))
    token = ("--module", keys.module, "--token", keys.token) if keys.place == "pkcs11" else ()
    issuers = ("--issuer-seconds", str(settings.keys.issuer_hours * 3600))
    return python("vouchgate.edges.processes.signer", *known, *solo, *place, *token, *issuers, *more)


def signer_spec(
    settings: Settings, layout: Layout, users: Users, python: PythonCommand, *more: str, secret: int | None = None, old: int | None = None
) -> Spec:
    """The signer; `secret` and `old` are descriptors of the passphrase or PIN that opens its keys, and of the one that did."""
    handed = (("--secret-fd", secret), ("--old-secret-fd", old))
    named = tuple(word for option, number in handed if number is not None for word in (option, str(number)))
    return Spec(
        name="signer",
        argv=signer_command(settings, layout, users, python, *named, *more),
        uid=users.drop_to("signer"),
        pass_fds=tuple(number for _, number in handed if number is not None),
        env=dict(settings.keys.module_environment) if settings.keys.place == "pkcs11" else {},
    )


def server_uids(settings: Settings, users: Users) -> dict[str, int]:
    """Endpoint name -> uid of the server that is started for it."""
    started = [one for one in settings.endpoints if one.command]
    return {
        one.name: users.server(one.uid_offset - FIRST_SERVER_OFFSET if one.uid_offset else number) for number, one in enumerate(started)
    }


def server_spec(
    endpoint: EndpointSettings, users: Users, number: int, *, interpreter: str, listen_fd: int, model_fd: int | None, folder: str
) -> Spec:
    """A model server: its listening socket and, where it serves a file, the very bytes that were hashed are handed down as descriptors."""
    words = {"python": interpreter, "fd": str(listen_fd), "model": "" if model_fd is None else f"/dev/fd/{model_fd}"}
    words["gateway_uid"] = str(users.of("gateway"))
    argv = tuple(_fill(argument, words) for argument in endpoint.command)
    uid = users.server(endpoint.uid_offset - 10 if endpoint.uid_offset else number) if users.isolated else None
    descriptors = (listen_fd,) if model_fd is None else (listen_fd, model_fd)
    return Spec(name=endpoint.name, argv=argv, uid=uid, pass_fds=descriptors, env=dict(endpoint.environment), cwd=endpoint.folder or folder)


def _fill(argument: str, words: dict[str, str]) -> str:
    for name, value in words.items():
        argument = argument.replace("{" + name + "}", value)
    return argument
