"""TLS with and without client certificates, Unix sockets, IPv6, users: the same look by each."""

import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import trustme

from evals import servers
from evals.servers import Server
from tests.deployments import cluster, say, until
from tools.connection import Connection
from tools.memory import MemoryInfo
from tools.opening import UnreachableConnection, open_for_reading
from tools.reads import READS


async def used(connection: Connection) -> int:
    found = await READS["memory_info"].call(connection, {})
    assert isinstance(found, MemoryInfo), found
    assert isinstance(found.used_memory, int)
    return found.used_memory


class Certificates:
    """An authority, a server and a client of its, and a client of nobody's."""

    def __init__(self, folder: Path) -> None:
        authority, self.folder = trustme.CA(), folder
        authority.cert_pem.write_to_path(str(self.path("ca")))
        for name, issued in (
            ("server", authority.issue_cert("127.0.0.1", "localhost", "::1")),
            ("client", authority.issue_cert("oncall@redis.example")),
            ("stranger", trustme.CA().issue_cert("oncall@redis.example")),
        ):
            issued.private_key_pem.write_to_path(str(self.path(f"{name}-key")))
            issued.cert_chain_pems[0].write_to_path(str(self.path(name)))

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def arguments(self, auth_clients: str) -> list[str]:
        """For a server whose only port speaks TLS."""
        return ["--tls-cert-file", str(self.path("server")),
                "--tls-key-file", str(self.path("server-key")),
                "--tls-ca-cert-file", str(self.path("ca")),
                "--tls-auth-clients", auth_clients, "--tls-replication", "yes",
                "--tls-cluster", "yes"]  # fmt: skip

    def options(self, client: str = "") -> str:
        """Of a URL."""
        own = f"&ssl_certfile={self.path(client)}&ssl_keyfile={self.path(client + '-key')}"
        return f"ssl_ca_certs={self.path('ca')}" + (own if client else "")


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def start_tls(certificates: Certificates, tmp_path: Path) -> Iterator[Callable[[str], int]]:
    """`start_tls(auth_clients)`: the port of Debian's server, the only build here with TLS."""
    path = servers.binary("redis-7.0")
    if path is None:
        pytest.skip("a server with TLS is not installed here (Debian package redis-server)")
    processes = []

    def start(auth_clients: str) -> int:
        port = servers.free_port()
        process = subprocess.Popen(
            [path, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", "",
             "--dir", str(tmp_path), *certificates.arguments(auth_clients)],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        processes.append(process)
        context = ssl.create_default_context(cafile=str(certificates.path("ca")))
        context.load_cert_chain(certificates.path("client"), certificates.path("client-key"))

        def answers() -> bool:
            with redis.Redis(
                port=port, ssl=True, ssl_ca_certs=str(certificates.path("ca")),
                ssl_certfile=str(certificates.path("client")),
                ssl_keyfile=str(certificates.path("client-key")),
            ) as client:  # fmt: skip
                return bool(client.ping())

        until(answers, "the server with TLS")
        return port

    yield start
    for process in processes:
        process.terminate()
        process.wait(10)


async def test_tls_is_checked_and_a_client_certificate_is_shown(
    certificates: Certificates, start_tls: Callable[[str], int]
) -> None:
    port = start_tls("yes")
    url = f"rediss://127.0.0.1:{port}/0?"
    connection = await open_for_reading(url + certificates.options("client"))
    assert connection.node == f"127.0.0.1:{port} (master)"
    assert await used(connection) > 0
    await connection.close()
    for wrong in (certificates.options(), certificates.options("stranger"), ""):
        refused = await open_for_reading(url + wrong)
        assert isinstance(refused, UnreachableConnection), wrong
        assert str(certificates.folder) not in str(refused.failure)


async def test_a_name_that_is_not_in_the_certificate_is_refused(
    certificates: Certificates, start_tls: Callable[[str], int]
) -> None:
    port = start_tls("no")
    good = await open_for_reading(f"rediss://localhost:{port}/0?{certificates.options()}")
    assert await used(good) > 0
    await good.close()
    other = await open_for_reading(f"rediss://127.0.0.2:{port}/0?{certificates.options()}")
    assert isinstance(other, UnreachableConnection)


async def test_a_unix_socket(build: str, start_server: Callable[..., Server]) -> None:
    server = start_server(build)
    path = server.directory / "s"
    other = start_server(build, "--unixsocket", str(path), "--unixsocketperm", "700")
    connection = await open_for_reading(f"unix://{path}")
    assert connection.node == f"{path} (master)"
    assert await connection.execute("CLIENT", "ID") is not None
    assert other.port
    assert await used(connection) > 0
    await connection.close()


async def test_ipv6(build: str, start_server: Callable[..., Server]) -> None:
    server = start_server(build, "--bind", "127.0.0.1", "::1")
    connection = await open_for_reading(f"redis://[::1]:{server.port}/0")
    assert connection.node == f"[::1]:{server.port} (master)"
    assert await used(connection) > 0
    await connection.close()


async def test_a_cluster_and_a_replica_on_ipv6(start_server: Callable[..., Server]) -> None:
    with cluster("valkey-9.1", "--bind", "127.0.0.1", "::1", replicas=False, host="::1") as made:
        first = made.primaries[0]
        connection = await open_for_reading(f"redis-cluster://[::1]:{first.port}")
        assert connection.node.startswith("[::1]:")
        found = await READS["nodes"].call(connection, {})
        assert getattr(found, "not_reached", None) == 0
        await connection.close()


async def test_the_same_user_is_used_on_every_node() -> None:
    with cluster("valkey-9.1", replicas=False) as made:
        for node in made.primaries:
            say(node.port, "ACL", "SETUSER", "sre", "on", ">s3cret", "~*", "+@all")
            say(node.port, "ACL", "SETUSER", "default", "off")
        url = made.url.replace("://", "://sre:s3cret@")
        connection = await open_for_reading(url)
        found = await READS["nodes"].call(connection, {})
        assert getattr(found, "not_reached", None) == 0
        await connection.close()
        refused = await open_for_reading(made.url.replace("://", "://sre:wr0ng@"))
        assert isinstance(refused, UnreachableConnection)
        assert refused.failure.kind == "auth"
        assert "wr0ng" not in str(refused.failure)
