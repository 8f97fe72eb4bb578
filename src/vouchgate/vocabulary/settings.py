"""`Settings`: what vouchgate.toml may say, each key with its type, bounds and one sentence.

Rules
1. Every key stands here once; `settings_file.settings_template` writes the commented file from the same lines.
2. Nothing secret is a setting.
Left to others: parsing and contradictions (vocabulary/settings_file.py), reading the file and the environment (wiring).
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from msgspec import Meta

from vouchgate.vocabulary.decisions import Mode
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import PRINCIPAL_KINDS
from vouchgate.vocabulary.places import DEFAULT_LEASE_SECONDS, DEFAULT_MAX_STREAM_SECONDS, MAX_LEASE_SECONDS
from vouchgate.vocabulary.settings_artifacts import ArtifactSettings
from vouchgate.vocabulary.settings_authzen import ApplicationSettings, AuthzenSettings
from vouchgate.vocabulary.settings_federation import FederationSettings
from vouchgate.vocabulary.settings_keys import KeySettings
from vouchgate.vocabulary.settings_people import OidcSettings, SsfSettings
from vouchgate.vocabulary.settings_signers import BuilderSettings, SignerSettings
from vouchgate.vocabulary.settings_zones import AssetSettings, CrossingSettings
from vouchgate.vocabulary.wire import Noun

MAX_SETTINGS_BYTES = 1024 * 1024
"""Bytes of vouchgate.toml: ten thousand endpoints fit; a wrong file is refused unread."""
ROLES = ("auditor", "registrar", "policy-author", "policy-approver", "responder", "key-custodian", "approver", "enforcement-point")
"""Administrative roles (contracts, "Administration")."""
FIRST_SERVER_OFFSET = 10
"""Model servers run under `uid_base` + this and above; below are vouchgate's own processes."""

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Name = Annotated[str, Meta(pattern=NAME_PATTERN)]


class GatewaySettings(Noun, frozen=True, kw_only=True):
    """[gateway]"""

    listen: Annotated[str, Meta(description="Address of the mTLS listener; port 0 takes a free one.")] = "127.0.0.1:8443"
    plain_listen: Annotated[
        str, Meta(description="Address of the listener without TLS, for wrapped servers in observe and for JWT on loopback; empty: none.")
    ] = ""
    federated_listen: Annotated[
        str, Meta(description="Address of the listener for partners' workloads ([[federation]]), with its port; empty: none.")
    ] = ""
    egress_listen: Annotated[
        str, Meta(description="Address of the mTLS listener through which workloads call providers; it is there where [[egress]] is.")
    ] = "127.0.0.1:8445"
    hosts: Annotated[tuple[str, ...], Meta(min_length=1, max_length=64, description="Host names that callers may ask for.")] = (
        "localhost",
        "127.0.0.1",
    )
    concurrency: Annotated[int, Meta(ge=1, le=64, description="Envoy's worker threads.")] = 1
    admin_socket: Annotated[bool, Meta(description="Keep Envoy's admin interface, on a 0600 unix socket; metrics need it.")] = True


class ConsoleSettings(Noun, frozen=True, kw_only=True):
    """[console]"""

    listen: Annotated[str, Meta(description="Loopback address of the console; empty: no console.")] = "127.0.0.1:8470"
    session_minutes: Annotated[int, Meta(ge=5, le=1440, description="A console session ends after this.")] = 480


class ProcessSettings(Noun, frozen=True, kw_only=True):
    """[processes]"""

    isolate: Annotated[
        Literal["auto", "require", "off"],
        Meta(description="Own uid for each process: auto (under root), require (refuse to start without), off."),
    ] = "auto"
    restart: Annotated[bool, Meta(description="Start a process again when it ends by itself.")] = True


class ZoneSettings(Noun, frozen=True, kw_only=True):
    """[zones.<name>]"""

    mode: Annotated[
        Mode,
        Meta(description="enforce, or observe: decided and recorded, not refused; ends by itself. `vouchgate adopt` changes it later."),
    ] = "enforce"
    lease_seconds: Annotated[
        int, Meta(ge=1, le=MAX_LEASE_SECONDS, description="How long the gateway goes on allowing without the control plane.")
    ] = DEFAULT_LEASE_SECONDS


class RouteSettings(Noun, frozen=True, kw_only=True):
    """One entry of `routes`."""

    method: Annotated[Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"], Meta(description="HTTP method.")]
    path: Annotated[str, Meta(pattern=r"^/[A-Za-z0-9._{}/-]*$", max_length=256, description="Exact path, or with {name} segments.")]
    action: Annotated[Name, Meta(description="Action a caller must be granted.")]
    streams: Annotated[bool, Meta(description="The answer may be server-sent events.")] = False


class EndpointSettings(Noun, frozen=True, kw_only=True):
    """[[endpoints]]"""

    name: Annotated[Name, Meta(description="Its id becomes vg://<trust domain>/endpoint/<name>.")]
    zone: Annotated[Name, Meta(description="One of [zones].")]
    upstream: Annotated[
        str,
        Meta(
            description="Where it listens: tcp:127.0.0.1:9000, unix:/path, or server:<endpoint> for the server another endpoint starts; "
            "empty with `command`."
        ),
    ] = ""
    command: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64, description="Starts the server; {python}, {model}, {fd} (its listening socket) and {gateway_uid} are filled in."
        ),
    ] = ()
    environment: Annotated[dict[str, str], Meta(description="Environment of `command`; nothing else is passed on but PATH.")] = {}
    folder: Annotated[str, Meta(description="Working folder of `command`; empty: the settings file's.")] = ""
    uid_offset: Annotated[int, Meta(ge=0, le=999, description="The server's uid is uid_base + this; 0: the next free one from 10.")] = 0
    model: Annotated[str, Meta(description="File of the model it serves; imported at start, opened by the supervisor.")] = ""
    host: Annotated[str, Meta(max_length=255, description="Host name under which it is reached; *: every host of [gateway].")] = "*"
    prefix: Annotated[
        str, Meta(pattern=r"^(/[A-Za-z0-9._-]+)*$", max_length=128, description="Path prefix, removed before the server sees it.")
    ] = ""
    routes: Annotated[tuple[RouteSettings, ...], Meta(max_length=256, description="What exists; all else is 404.")] = ()
    bearer: Annotated[bool, Meta(description="A JWT-SVID alone identifies a caller here.")] = False
    model_in_body: Annotated[bool, Meta(description="The body's member `model` names what is asked for (OpenAI-compatible).")] = False
    models: Annotated[dict[str, str], Meta(description="With model_in_body: the API's model name = the endpoint it stands for.")] = {}
    mcp: Annotated[bool, Meta(description="An MCP server (streamable HTTP): the message in the body names the action and the tool.")] = (
        False
    )
    mcp_path: Annotated[str, Meta(pattern=r"^/[A-Za-z0-9._/-]*$", max_length=128, description="With mcp: the server's one path.")] = "/mcp"
    tools: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")], ...],
        Meta(max_length=256, description="With mcp: the tools that may be called, as the server names them; another one is refused."),
    ] = ()
    methods: Annotated[
        dict[str, Name], Meta(description="With mcp: further methods, or another action for a known one; what is not listed is refused.")
    ] = {}
    resource_uri: Annotated[
        str,
        Meta(
            pattern=r"^(https://[a-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?)?$",
            max_length=256,
            description="With mcp: the URI under which clients know it; empty: https, the gateway's first host, and the path.",
        ),
    ] = ""
    labels: Annotated[tuple[Name, ...], Meta(max_length=16, description="Labels of the data that it may be sent, for policies.")] = ()
    purposes: Annotated[tuple[Name, ...], Meta(max_length=16, description="What it may be used for, for policies.")] = ()
    asset: Annotated[
        str,
        Meta(
            pattern=r"^((dataset|model|adapter)/[a-z0-9][a-z0-9._-]{0,63})?$",
            description="kind/name of one of [[assets]] that is read and written through it; what is asked for is then the asset.",
        ),
    ] = ""
    approvals: Annotated[
        bool, Meta(description="Bodies of at most 16 KiB go to the decision point, so that a person can approve a single request.")
    ] = False
    wrapped: Annotated[bool, Meta(description="A legacy server: any method and path; only in a zone in observe.")] = False
    max_stream_seconds: Annotated[
        int, Meta(ge=1, le=3600, description="A request that was admitted before a revocation ends within this.")
    ] = DEFAULT_MAX_STREAM_SECONDS


class EgressSettings(Noun, frozen=True, kw_only=True):
    """[[egress]]"""

    name: Annotated[Name, Meta(description="Its id becomes vg://<trust domain>/endpoint/<name>; no [[endpoints]] has the same name.")]
    zone: Annotated[Name, Meta(description="One of [zones]; it must enforce.")]
    upstream: Annotated[
        str,
        Meta(
            pattern=r"^https://[a-z0-9.-]+(:[0-9]{1,5})?$",
            max_length=256,
            description="The provider; its certificate must hold for exactly this host.",
        ),
    ]
    host: Annotated[str, Meta(max_length=255, description="Host name under which workloads call it; *: every host of [gateway].")] = "*"
    prefix: Annotated[
        str, Meta(pattern=r"^(/[A-Za-z0-9._-]+)*$", max_length=128, description="Path prefix, removed before the provider sees it.")
    ] = ""
    routes: Annotated[tuple[RouteSettings, ...], Meta(min_length=1, max_length=256, description="What may be called; all else is 404.")]
    secret: Annotated[str, Meta(pattern=r"^([a-z0-9][a-z0-9._-]{0,63})?$", description="One of [[secrets]]; empty: none is put in.")] = ""
    header: Annotated[
        str, Meta(pattern=r"^[a-z0-9-]{1,64}$", description="Header that carries the secret; what the caller sends there is removed.")
    ] = "authorization"
    scheme: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9]{0,32}$", description="Word before the secret in that header; empty: the secret alone.")
    ] = "Bearer"
    query: Annotated[
        bool, Meta(description="Calls may have a query; some providers take a key there, by which a caller could call as somebody else.")
    ] = False
    ca_file: Annotated[
        str,
        Meta(
            max_length=4096,
            description="PEM file of the authorities that may vouch for the provider, readable by the gateway; empty: the system's.",
        ),
    ] = ""
    labels: Annotated[tuple[Name, ...], Meta(max_length=16, description="Labels of the data that it may be sent, for policies.")] = ()
    requests_per_day: Annotated[int, Meta(ge=0, description="Requests of one caller on one day (UTC); 0: no bound.")] = 0
    megabytes_per_day: Annotated[int, Meta(ge=0, description="Megabytes of bodies both ways, of one caller on one day; 0: no bound.")] = 0
    max_stream_seconds: Annotated[int, Meta(ge=1, le=3600, description="A call ends within this.")] = DEFAULT_MAX_STREAM_SECONDS


class IdentitySettings(Noun, frozen=True, kw_only=True):
    """[[identities]]"""

    name: Annotated[Name, Meta(description="Last segment of spiffe://<trust domain>/<kind>/<zone>/<name>.")]
    kind: Annotated[str, Meta(description=f"One of {', '.join(sorted(PRINCIPAL_KINDS - {'system', 'declared'}))}.")]
    zone: Annotated[Name, Meta(description="Its zone.")]
    groups: Annotated[tuple[Name, ...], Meta(max_length=64, description="Groups that policies name.")] = ()
    uid: Annotated[int, Meta(ge=-1, description="The unix uid that earns it; -1: none.")] = -1
    svid_seconds: Annotated[int, Meta(ge=0, le=86400, description="Life of its certificates; 0: 300 for agents, 3600 for others.")] = 0
    jwt_seconds: Annotated[int, Meta(ge=10, le=300, description="Life of its tokens.")] = 300
    networks: Annotated[tuple[str, ...], Meta(max_length=16, description="Networks from which it calls; usual without being learned.")] = ()
    hours: Annotated[str, Meta(max_length=5, description="Hours (UTC) within which it calls, as 8-18; usual without being learned.")] = ""
    enforcement_point: Annotated[bool, Meta(description="It may ask for decisions about others ([authzen]).")] = False


class AdministratorSettings(Noun, frozen=True, kw_only=True):
    """[[administrators]]"""

    name: Annotated[Name, Meta(description="Becomes spiffe://<trust domain>/person/admin/<name>.")]
    uid: Annotated[int, Meta(ge=0, description="The unix uid that is this person.")]
    roles: Annotated[tuple[str, ...], Meta(min_length=1, description=f"Of {', '.join(ROLES)}.")]


class PolicySettings(Noun, frozen=True, kw_only=True):
    """[[policies]]"""

    path: Annotated[str, Meta(min_length=1, description="A Cedar file.")]


class SecretSettings(Noun, frozen=True, kw_only=True):
    """[[secrets]]"""

    name: Annotated[Name, Meta(description="How policies and [[egress]] call it: vg://<trust domain>/system/secret.<name>.")]
    rotator: Annotated[Name, Meta(description="Who owns it and how it is rotated: one of the rotators of docs/catalog.md.")]
    config: Annotated[
        dict[str, str], Meta(description="What the rotator takes; never a secret: those are brought by `vouchgate secrets put`.")
    ] = {}
    rotate_days: Annotated[int, Meta(ge=0, le=365, description="It is rotated when it is this old; 0: only when asked.")] = 30
    overlap_seconds: Annotated[int, Meta(ge=0, le=604_800, description="The version before stays valid for this long.")] = 3600


class AuditSettings(Noun, frozen=True, kw_only=True):
    """[audit]"""

    max_lag_seconds: Annotated[
        int, Meta(ge=1, le=60, description="When the log lags more than this behind traffic, leases are not renewed.")
    ] = 5
    disk_reserve_mib: Annotated[int, Meta(ge=16, le=1_048_576, description="When less is free, leases are not renewed.")] = 256
    batch_entries: Annotated[int, Meta(ge=1, le=4096, description="Entries of one durable write.")] = 256
    batch_milliseconds: Annotated[int, Meta(ge=1, le=1000, description="An entry waits at most this for its batch.")] = 5
    checkpoint_seconds: Annotated[
        int, Meta(ge=1, le=3600, description="A new signed checkpoint at least this often, when there is something new.")
    ] = 1


class LimitSettings(Noun, frozen=True, kw_only=True):
    """[limits]"""

    import_mib: Annotated[int, Meta(ge=1, le=1_048_576, description="Largest file that `import` takes in.")] = 16_384
    request_body_kib: Annotated[int, Meta(ge=1, le=65_536, description="Largest request body that is read to find the model's name.")] = (
        1024
    )
    api_requests_per_second: Annotated[int, Meta(ge=1, le=10_000, description="Administrative requests of one caller.")] = 50
    registrations_per_minute: Annotated[int, Meta(ge=1, le=100_000, description="New registrations of one caller.")] = 600
    approval_minutes: Annotated[int, Meta(ge=1, le=1440, description="A request that waits for a person lapses after this.")] = 15
    signatures_per_second: Annotated[int, Meta(ge=1, le=100_000, description="Signatures of the signer, each purpose for itself.")] = 2000
    entries_per_map: Annotated[int, Meta(ge=1, le=2000, description="Callers in one allow-map; beyond it grants go into credentials.")] = (
        2000
    )


class AgentSettings(Noun, frozen=True, kw_only=True):
    """[agent]"""

    requests_per_second: Annotated[
        int, Meta(ge=1, le=100_000, description="Requests at the Workload API of one uid, on average; twice as many at once.")
    ] = 500
    slurm: Annotated[
        str,
        Meta(description="slurmrestd, which says whose a job's processes are: unix:<path>, http://127.0.0.1:<port> or https; empty: none."),
    ] = ""
    slurm_node: Annotated[str, Meta(max_length=64, description="NodeName of this machine in slurm.conf.")] = ""
    slurm_version: Annotated[str, Meta(description="Version of slurmrestd's interface, v0.0.40 or newer.")] = "v0.0.40"
    slurm_user: Annotated[str, Meta(max_length=64, description="Whose token it is; empty for a unix socket.")] = ""
    slurm_token_file: Annotated[str, Meta(description="Its token, 0600, of root; empty for a unix socket.")] = ""


class StsClientSettings(Noun, frozen=True, kw_only=True):
    """[[sts.clients]]"""

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:/-]{1,128}$", description="What the client calls itself, `client_id`.")]
    redirects: Annotated[
        tuple[str, ...], Meta(min_length=1, max_length=8, description="Exact redirect addresses: https, or http on loopback with any port.")
    ]


class StsSourceSettings(Noun, frozen=True, kw_only=True):
    """[[sts.sources]]"""

    name: Annotated[Name, Meta(description="Its name; part of its selectors where it is not the attestor's own.")]
    attestor: Annotated[Name, Meta(description="What reads its evidence: github-actions, kubernetes-token, spiffe-jwt, x509-pop, ...")]
    issuer: Annotated[str, Meta(max_length=512, description="The one accepted issuer, or foreign trust domain.")] = ""
    audience: Annotated[str, Meta(max_length=512, description="Audience of its tokens; empty: the token service's own address.")] = ""
    keys_file: Annotated[
        str, Meta(description="Its JWK Set, SPIFFE bundle, or CA certificates as PEM; empty: the recorded keys of its name.")
    ] = ""
    keys_url: Annotated[
        str,
        Meta(max_length=2048, description="Where its JWK Set is fetched, https://...; instead of `keys_file`, for issuers that rotate."),
    ] = ""
    ca_file: Annotated[str, Meta(description="PEM of the only authorities of that address; empty: the system's.")] = ""
    private_network: Annotated[bool, Meta(description="Whether that address may be one of a private network.")] = False
    host: Annotated[str, Meta(max_length=253, description="azure-instance: DNS name of the signer; empty: metadata.azure.com.")] = ""
    max_age_seconds: Annotated[
        int, Meta(ge=0, le=86_400, description="aws-instance: seconds after its start in which an instance attests; 0: 900.")
    ] = 0
    required: Annotated[tuple[str, ...], Meta(max_length=32, description="Claims that a generic token must have.")] = ()
    optional: Annotated[tuple[str, ...], Meta(max_length=32, description="Claims that it may have.")] = ()
    ignored: Annotated[tuple[str, ...], Meta(max_length=64, description="Claims that say nothing here.")] = ()


class StsSettings(Noun, frozen=True, kw_only=True):
    """[sts]"""

    listen: Annotated[str, Meta(description="HTTPS address of the token service; empty: none.")] = ""
    hosts: Annotated[tuple[str, ...], Meta(min_length=1, max_length=16, description="Host names in its certificate.")] = ("localhost",)
    url: Annotated[str, Meta(description="How others reach it, without a final slash; empty: https://<first host>:<port>.")] = ""
    web_certificate: Annotated[
        str,
        Meta(description="PEM chain of the web's authorities, for callers that ask by its names (bundle profile https_web); empty: none."),
    ] = ""
    web_key: Annotated[str, Meta(description="Its key, PEM, 0600, of the token service's uid.")] = ""
    gateway_urls: Annotated[
        tuple[str, ...],
        Meta(
            max_length=16,
            description="Origins under which callers reach the gateway, for DPoP; empty: each host of [gateway] with its port.",
        ),
    ] = ()
    max_depth: Annotated[int, Meta(ge=1, le=4, description="Actors that one token may name.")] = 3
    token_seconds: Annotated[int, Meta(ge=10, le=300, description="Longest life of an exchanged token.")] = 300
    requests_per_second: Annotated[int, Meta(ge=1, le=10_000, description="Requests of one client.")] = 20
    clients: Annotated[tuple[StsClientSettings, ...], Meta(max_length=64, description="Who may ask a person to authorise it.")] = ()
    sources: Annotated[tuple[StsSourceSettings, ...], Meta(max_length=64, description="Whose evidence earns identities.")] = ()


class StoreSettings(Noun, frozen=True, kw_only=True):
    """[store]"""

    engine: Annotated[Literal["sqlite", "postgres"], Meta(description="sqlite keeps everything under data_dir.")] = "sqlite"
    socket: Annotated[str, Meta(description="postgres: folder of its unix socket; peer authentication, so no secret stands here.")] = ""
    database: Annotated[str, Meta(description="postgres: name of the database.")] = ""


class Settings(Noun, frozen=True, kw_only=True):
    """vouchgate.toml"""

    trust_domain: Annotated[str, Meta(description="The tenant: part of every name. It cannot be changed later.")]
    data_dir: Annotated[str, Meta(description="Everything vouchgate keeps.")] = "data"
    root_dir: Annotated[str, Meta(description="The offline root key; outside data_dir, better on another medium.")] = "root"
    uid_base: Annotated[int, Meta(ge=1000, le=2_000_000_000, description="Under root, process n runs as uid uid_base + n.")] = 58000
    solo: Annotated[
        bool, Meta(description="One person may author and approve the same change. Every page says so, and so does the log.")
    ] = False
    gateway: GatewaySettings = GatewaySettings()
    console: ConsoleSettings = ConsoleSettings()
    processes: ProcessSettings = ProcessSettings()
    store: StoreSettings = StoreSettings()
    artifacts: ArtifactSettings = ArtifactSettings()
    keys: KeySettings = KeySettings()
    agent: AgentSettings = AgentSettings()
    sts: StsSettings = StsSettings()
    authzen: AuthzenSettings = AuthzenSettings()
    audit: AuditSettings = AuditSettings()
    limits: LimitSettings = LimitSettings()
    zones: dict[Name, ZoneSettings] = {}
    crossings: tuple[CrossingSettings, ...] = ()
    assets: tuple[AssetSettings, ...] = ()
    endpoints: tuple[EndpointSettings, ...] = ()
    identities: tuple[IdentitySettings, ...] = ()
    administrators: tuple[AdministratorSettings, ...] = ()
    policies: tuple[PolicySettings, ...] = ()
    secrets: tuple[SecretSettings, ...] = ()
    federation: tuple[FederationSettings, ...] = ()
    signers: tuple[SignerSettings, ...] = ()
    builders: tuple[BuilderSettings, ...] = ()
    egress: tuple[EgressSettings, ...] = ()
    applications: tuple[ApplicationSettings, ...] = ()
    oidc: tuple[OidcSettings, ...] = ()
    ssf: SsfSettings = SsfSettings()


def host_port(text: str) -> tuple[str, int]:
    """Take `127.0.0.1:8443` or `[::1]:8443` apart. Raises `InvalidInput`."""
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535 or len(port) > 5:
        raise InvalidInput(f"`{text[:80]}` is not an address", remedy="write host:port, for example 127.0.0.1:8443")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`. A name other than `localhost` may resolve to anything, so it is not."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
