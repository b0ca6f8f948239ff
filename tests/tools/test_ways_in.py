"""TLS with and without client certificates, Unix sockets, IPv6, users: the same look by each."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evals.servers import Server
from tests.deployments import Certificates, cluster, say, tls_port
from tools.connection import Connection
from tools.memory import MemoryInfo
from tools.opening import UnreachableConnection, open_for_reading
from tools.reads import READS


async def used(connection: Connection) -> int:
    found = await READS["memory_info"].call(connection, {})
    assert isinstance(found, MemoryInfo), found
    assert isinstance(found.used_memory, int)
    return found.used_memory


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def start_tls(certificates: Certificates) -> Iterator[Callable[[str], int]]:
    """`start_tls(auth_clients)`: the port of a server that speaks nothing but TLS."""
    with contextlib.ExitStack() as stack:
        yield lambda auth: stack.enter_context(tls_port(certificates, "--tls-auth-clients", auth))


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
