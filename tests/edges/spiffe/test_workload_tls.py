"""Two processes that speak mTLS with what the agent gave them: by stock `spiffe-tls`, and by a real Envoy over SDS."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from agent_world import NAME, TD, House, agent_world
from raw_client import Raw, framed

from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.principals import Selector

BOB = principal(TD, "service", "serve", "bob")
SERVER = """
import sys
from spiffe import SpiffeId, X509Source
from spiffetls import ListenOptions, listen
from spiffetls.mode import ServerTlsMode
from spiffetls.tlsconfig.authorize import authorize_id
source = X509Source(socket_path=sys.argv[1], timeout_in_seconds=10)
options = ListenOptions(tls_mode=ServerTlsMode.MTLS, authorize_fn=authorize_id(SpiffeId(sys.argv[2])))
listening = listen("127.0.0.1:0", source, options)
print(listening.getsockname()[1], flush=True)
while True:
    connection, _ = listening.accept()
    try:
        connection.do_handshake()
        connection.sendall(b"hello " + connection.recv(100))
        connection.shutdown()
    except Exception as error:
        print(type(error).__name__, flush=True)
    connection.close()
"""
CLIENT = """
import sys
from spiffe import SpiffeId, X509Source
from spiffetls import dial
from spiffetls.tlsconfig.authorize import authorize_id
source = X509Source(socket_path=sys.argv[1], timeout_in_seconds=10)
connection = dial("127.0.0.1:" + sys.argv[2], source, authorize_fn=authorize_id(SpiffeId(sys.argv[3])))
connection.sendall(source.get_x509_context().default_svid.spiffe_id.path.encode())
print(connection.recv(100).decode())
"""


def run(story, seconds: float = 60) -> None:
    asyncio.run(asyncio.wait_for(story(), seconds))


async def two(house: House) -> None:
    """Two identities, told apart by a selector that the test gives by process."""
    for name, path in ((NAME, "/opt/alice"), (BOB, "/opt/bob")):
        selectors = (Selector(type="unix:uid", value=str(os.getuid())), Selector(type="unix:path", value=path))
        await house.register(name, selectors=selectors)


def started(house: House, path: str, code: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that the supervisor says runs `path`."""
    # it waits for a line, so that it is known before it connects
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.readline()\n" + code, house.address, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    house.facts[child.pid] = {"unix-process": {"uid": os.getuid(), "gid": 0, "exe_path": path}}
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()
    return child


def end(*children: subprocess.Popen[str]) -> None:
    for child in children:
        child.kill()
        child.communicate()


def test_stock_spiffe_tls_connects_two_processes_and_refuses_a_third():
    async def story() -> None:
        async with agent_world() as house:
            await two(house)
            server = started(house, "/opt/alice", SERVER, BOB)
            port = (await house.thread(server.stdout.readline)).strip()
            bob = started(house, "/opt/bob", CLIENT, port, NAME)
            said, _ = await house.thread(bob.communicate)
            assert said == "hello /service/serve/bob\n"
            itself = started(house, "/opt/alice", CLIENT, port, NAME)
            said, _ = await house.thread(itself.communicate)
            assert "hello" not in said
            end(server)

    run(story)


def envoy_config(folder: Path, socket_path: str, listen: Path) -> dict:
    """An Envoy that takes its certificate and roots by SDS, and speaks mTLS."""
    over = {"api_config_source": {"api_type": "GRPC", "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "agent"}}]}, "resource_api_version": "V3"}  # fmt: skip
    tls = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": over}],
            "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": over},
        },
    }
    answer = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config",
        "response": {"inline_string": "hi"},
    }
    return {
        "node": {"id": "e", "cluster": "e"},
        "static_resources": {
            "clusters": [{
                "name": "agent", "type": "STATIC", "connect_timeout": "1s",
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}}},
                "load_assignment": {"cluster_name": "agent", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": {"pipe": {"path": socket_path}}}}]}]},
            }],
            "listeners": [{
                "name": "l", "address": {"pipe": {"path": str(listen)}},
                "filter_chains": [{
                    "filters": [{"name": "envoy.filters.network.direct_response", "typed_config": answer}],
                    "transport_socket": {"name": "tls", "typed_config": tls},
                }],
            }],
        },
    }  # fmt: skip


def shake(path: Path, context: ssl.SSLContext) -> tuple[bytes, bytes]:
    """Connect; the server's certificate and what it says."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(5)
        raw.connect(str(path))
        with context.wrap_socket(raw) as wrapped:
            return wrapped.getpeercert(True), wrapped.recv(10)


@pytest.mark.gateway
def test_a_real_envoy_gets_its_certificate_by_sds_serves_mtls_with_it_and_follows_a_rotation():
    from vouchgate.edges.envoy.bootstrap import envoy_binary

    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            listen, config = house.folder / "l.sock", house.folder / "envoy.json"
            config.write_text(json.dumps(envoy_config(house.folder, str(house.folder / "workload.sock"), listen)))
            command = [str(envoy_binary()), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
            envoy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                with_ours = await house.thread(lambda: _context(house))

                async def served() -> bytes:
                    for _ in range(400):
                        try:
                            made, said = await house.thread(lambda: shake(listen, with_ours))
                            assert said == b"hi"
                            return made
                        except (OSError, ssl.SSLError):
                            await asyncio.sleep(0.02)
                    raise AssertionError("Envoy never served")

                first = await served()
                assert NAME.encode() in first
                with pytest.raises((OSError, ssl.SSLError)):
                    await house.thread(lambda: shake(listen, _without(house)))
                house.push.rotate()
                for _ in range(200):
                    if await served() != first:
                        break
                else:
                    raise AssertionError("Envoy kept the old certificate")
            finally:
                envoy.kill()
                envoy.communicate()

    run(story)


def _context(house: House) -> ssl.SSLContext:
    from cryptography.hazmat.primitives.serialization import Encoding

    with house.client() as client:
        context = client.fetch_x509_context()
    chain, key, roots = (house.folder / name for name in ("c.pem", "k.pem", "r.pem"))
    context.default_svid.save(chain, key, Encoding.PEM)
    authorities = next(iter(context.x509_bundle_set.bundles)).x509_authorities
    roots.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in authorities))
    made = _without(house)
    made.load_cert_chain(chain, key)
    return made


def _without(house: House) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = False
    made.load_verify_locations(house.folder / "r.pem")
    return made


SDS = "/envoy.service.secret.v3.SecretDiscoveryService/"


@pytest.mark.parametrize("names", [(), ("nothing",), ("default", f"spiffe://{TD}x"), (BOB,), tuple(f"n{i}" for i in range(20))])
@pytest.mark.parametrize("method", ["FetchSecrets", "StreamSecrets"])
def test_secrets_that_are_not_the_callers_are_refused(names, method):
    from envoy.service.discovery.v3 import discovery_pb2

    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            client = await Raw().open(str(house.folder / "workload.sock"))
            asked = framed(discovery_pb2.DiscoveryRequest(resource_names=names).SerializeToString())
            assert await client.status(client.ask(SDS + method, asked, headers=(), end=method != "StreamSecrets")) == 3
            assert not client.data
            client.close()

    run(story)


def test_secrets_are_fetched_by_the_callers_own_name():
    from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
    from envoy.service.discovery.v3 import discovery_pb2

    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            client = await Raw().open(str(house.folder / "workload.sock"))
            asked = framed(discovery_pb2.DiscoveryRequest(resource_names=[NAME, f"spiffe://{TD}"]).SerializeToString())
            response = discovery_pb2.DiscoveryResponse.FromString(await client.message(client.ask(SDS + "FetchSecrets", asked, headers=())))
            mine, roots = (secret_pb2.Secret.FromString(one.value) for one in response.resources)
            assert mine.tls_certificate.private_key.inline_bytes.startswith(b"-----BEGIN PRIVATE KEY-----")
            assert roots.validation_context.trusted_ca.inline_string.startswith("-----BEGIN CERTIFICATE-----")
            stranger = await Raw().open(str(house.folder / "workload.sock"))
            house.facts[os.getpid()] = {"unix-process": {"uid": 4711, "gid": 0}}
            assert await stranger.status(stranger.ask(SDS + "FetchSecrets", asked, headers=())) == 7
            client.close()
            stranger.close()

    run(story)
