"""TLS with and without client certificates, Unix sockets, IPv6, users: the same look by each."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from evals import servers
from evals.servers import Server
from tests.deployments import Certificates, cluster, say, tls_port, tls_sentinel
from tools.connection import Connection
from tools.memory import MemoryInfo
from tools.nodes import Nodes
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


async def test_sentinels_with_tls_and_a_user_of_their_own(certificates: Certificates) -> None:
    """They and the nodes want certificates; what the URL says of TLS is for both."""
    with (
        tls_port(certificates, "--tls-auth-clients", "yes") as primary,
        tls_sentinel(certificates, primary, "watcher", "s3nt") as port,
    ):
        url = (
            f"rediss-sentinel://127.0.0.1:{port}/0?master_name=prod&sentinel_username=watcher"
            f"&sentinel_password=s3nt&ssl_min_version=771&{certificates.options('client')}"
        )
        connection = await open_for_reading(url)
        assert connection.node == f"127.0.0.1:{primary} (master)", connection
        await connection.close()


async def test_a_cluster_of_one_node_with_tls(certificates: Certificates) -> None:
    """No other node has told it its address."""
    options = certificates.options("client")
    bus = str(servers.free_port())  # by default 10,000 above, where there may be no port
    with tls_port(certificates, "--cluster-enabled", "yes", "--cluster-port", bus) as port:
        with redis.Redis.from_url(f"rediss://127.0.0.1:{port}?{options}") as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        connection = await open_for_reading(f"rediss-cluster://localhost:{port}?{options}")
        assert connection.node == f"localhost:{port} (master)"
        found = await READS["nodes"].call(connection, {})
        assert isinstance(found, Nodes)
        assert (found.primaries, found.failing, found.not_reached) == (1, 0, 0)
        await connection.close()


@pytest.mark.parametrize("kind", ["", "-cluster", "-sentinel"])
async def test_an_option_of_tls_that_is_none_is_told(kind: str) -> None:
    url = f"rediss{kind}://u:s3cret@127.0.0.1:1/0?master_name=m&ssl_cert_reqs=s3cret"
    refused = await open_for_reading(url)
    assert isinstance(refused, UnreachableConnection)
    assert "s3cret" not in str(refused.failure)


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
