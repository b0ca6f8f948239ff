"""Real deployments of several servers on loopback: clusters, Sentinels, TLS."""

import contextlib
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from evals import servers
from tools.cluster import slot_of
from tools.cluster_view import SLOTS

START_SECONDS = 30.0
AT_ONCE = ("--repl-diskless-sync-delay", "0")
"""By default a primary waits 5 s for more replicas before it sends its data."""


def until(holds: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    """Wait for it, also while servers refuse to talk."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(redis.RedisError, OSError):
            if holds():
                return
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


def say(port: int, *command: Any) -> Any:
    """One command; its reply as it comes."""
    with redis.Redis(port=port, protocol=2, decode_responses=True, socket_timeout=5) as client:
        client.response_callbacks.clear()
        return client.execute_command(*command)


def told(port: int, *command: Any) -> dict[str, str]:
    """What INFO, or CLUSTER INFO, tells."""
    lines = (line.partition(":") for line in say(port, *command).splitlines())
    return {name: value for name, _, value in lines}


def kill(server: servers.Server) -> None:
    """As a crash does."""
    process = servers._processes[server.pid]
    process.kill()
    process.wait()


@dataclass
class ClusterOfNodes:
    """Three primaries and, behind each, a replica."""

    primaries: list[servers.Server]
    replicas: list[servers.Server]

    @property
    def url(self) -> str:
        """All of them."""
        nodes = [*self.primaries, *self.replicas]
        return "redis-cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)

    def owner_of(self, key: str) -> servers.Server:
        """The primary that began with its slot."""
        return self.primaries[min(2, slot_of(key.encode()) * 3 // SLOTS)]

    def migrate(
        self, key: str, source: servers.Server, target: servers.Server, most: int
    ) -> list[str]:
        """Begin to move the key's slot, with so many of its keys; which."""
        slot = slot_of(key.encode())
        for server, what, other in ((target, "IMPORTING", source), (source, "MIGRATING", target)):
            say(server.port, "CLUSTER", "SETSLOT", slot, what, say(other.port, "CLUSTER", "MYID"))
        keys: list[str] = say(source.port, "CLUSTER", "GETKEYSINSLOT", slot, most)
        say(source.port, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        return keys


@contextlib.contextmanager
def cluster(
    build: str, *arguments: str, replicas: bool = True, host: str = "127.0.0.1"
) -> Iterator[ClusterOfNodes]:
    """A cluster of three primaries, each with a replica, that agree on who is who."""
    path = servers.binary(build)
    assert path is not None
    options = (
        "--cluster-enabled", "yes", "--cluster-node-timeout", "1500", *AT_ONCE, *arguments,
    )  # fmt: skip
    started: list[servers.Server] = []
    with contextlib.ExitStack() as stack:
        for _ in range(6 if replicas else 3):
            node = servers.start(build, path, options)
            started.append(node)
            stack.callback(servers.stop, node)
        made = ClusterOfNodes(started[:3], started[3:])
        _meet(started, host)
        for primary, replica in zip(made.primaries, made.replicas, strict=bool(replicas)):
            say(replica.port, "CLUSTER", "REPLICATE", say(primary.port, "CLUSTER", "MYID"))
        for node in started:
            until(lambda node=node: _is_whole(node, len(started)), "the cluster")  # type: ignore[misc]
        for replica in made.replicas:
            until(
                lambda replica=replica: (  # type: ignore[misc]
                    told(replica.port, "INFO", "replication")["master_link_status"] == "up"
                ),
                "replicas",
            )
        yield made


def _meet(nodes: list[servers.Server], host: str) -> None:
    for place, primary in enumerate(nodes[:3]):
        slots = [slot for slot in range(SLOTS) if min(2, slot * 3 // SLOTS) == place]
        say(primary.port, "CLUSTER", "ADDSLOTS", *slots)
        say(primary.port, "CLUSTER", "SET-CONFIG-EPOCH", place + 1)
    for node in nodes[1:]:
        say(nodes[0].port, "CLUSTER", "MEET", host, node.port)
    for node in nodes:
        until(lambda node=node: _knows(node) == len(nodes), "nodes that know each other")  # type: ignore[misc]


def _knows(node: servers.Server) -> int:
    return int(told(node.port, "CLUSTER", "INFO")["cluster_known_nodes"])


def _is_whole(node: servers.Server, nodes: int) -> bool:
    info = told(node.port, "CLUSTER", "INFO")
    return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == nodes


@dataclass
class Watched:
    """A primary, two replicas, and three Sentinels that watch them."""

    primary: servers.Server
    replicas: list[servers.Server]
    sentinels: list[int]
    """Ports."""

    @property
    def url(self) -> str:
        """By way of the Sentinels."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"redis-sentinel://{hosts}/0?master_name=prod"

    def in_sync(self) -> bool:
        """Whether both replicas are."""
        info = told(self.primary.port, "INFO", "replication")
        return all("state=online" in info[f"slave{number}"] for number in (0, 1))

    def named(self) -> int:
        """The port of the primary as the first Sentinel names it."""
        return int(say(self.sentinels[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "prod")[1])

    def fail_over(self) -> int:
        """Kill the primary and wait for another; its port."""
        kill(self.primary)
        until(lambda: self.named() != self.primary.port, "a failover")
        port = self.named()
        until(lambda: say(port, "ROLE")[0] == "master", "the new primary")
        return port


@contextlib.contextmanager
def watched(build: str, *arguments: str) -> Iterator[Watched]:
    """A Sentinel trio."""
    path = servers.binary(build)
    assert path is not None
    with contextlib.ExitStack() as stack:
        started = []
        for _ in range(3):
            started.append(servers.start(build, path, (*AT_ONCE, *arguments)))
            stack.callback(servers.stop, started[-1])
        primary, *replicas = started
        for replica in replicas:
            say(replica.port, "REPLICAOF", "127.0.0.1", primary.port)
        until(
            lambda: told(primary.port, "INFO", "replication")["connected_slaves"] == "2",
            "replicas",
        )
        ports = [stack.enter_context(_sentinel(path, primary.port)) for _ in range(3)]
        for port in ports:
            until(lambda port=port: _sees_all(port), "Sentinels that know each other")  # type: ignore[misc]
        yield Watched(primary, replicas, ports)


@contextlib.contextmanager
def _sentinel(path: Path, watches: int) -> Iterator[int]:
    with tempfile.TemporaryDirectory(prefix="redis-oncall-sentinel-") as folder:
        port = servers.free_port()
        configuration = Path(folder, "sentinel.conf")
        configuration.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/sentinel.log\n"
            f"sentinel monitor prod 127.0.0.1 {watches} 2\n"
            "sentinel down-after-milliseconds prod 1000\nsentinel failover-timeout prod 5000\n"
        )
        process = subprocess.Popen([path, configuration, "--sentinel"], stdout=subprocess.DEVNULL)
        try:
            until(lambda: say(port, "PING"), f"the Sentinel of {port}")
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def _sees_all(port: int) -> bool:
    (primary,) = [dict(zip(m[::2], m[1::2], strict=True)) for m in say(port, "SENTINEL", "MASTERS")]
    return (primary["num-other-sentinels"], primary["num-slaves"]) == ("2", "2")


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

    def arguments(self) -> list[str]:
        """For a server whose only port speaks TLS."""
        return ["--tls-cert-file", str(self.path("server")),
                "--tls-key-file", str(self.path("server-key")),
                "--tls-ca-cert-file", str(self.path("ca")),
                "--tls-replication", "yes",
                "--tls-cluster", "yes"]  # fmt: skip

    def options(self, client: str = "") -> str:
        """Of a URL."""
        own = f"&ssl_certfile={self.path(client)}&ssl_keyfile={self.path(client + '-key')}"
        return f"ssl_ca_certs={self.path('ca')}" + (own if client else "")


@contextlib.contextmanager
def tls_port(certificates: Certificates, *arguments: str) -> Iterator[int]:
    """The port of Debian's server, the only build here with TLS; skipped where it is not."""
    path = servers.binary("redis-7.0")
    if path is None:
        pytest.skip("a server with TLS is not installed here (Debian package redis-server)")
    port = servers.free_port()
    command = [str(path), "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1",
               "--save", "", "--dir", str(certificates.folder), *certificates.arguments(),
               *arguments]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"rediss://127.0.0.1:{port}/0?{certificates.options('client')}"

    def answers() -> bool:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())

    try:
        until(answers, "the server with TLS")
        yield port
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def tls_sentinel(
    certificates: Certificates, primary: int, user: str, password: str
) -> Iterator[int]:
    """The port of a Sentinel that watches that port as `prod` and knows nobody but that user."""
    path = servers.binary("redis-7.0")
    assert path is not None
    port = servers.free_port()
    configuration = certificates.folder / "sentinel.conf"
    options = certificates.arguments()
    configuration.write_text(
        f"port 0\ntls-port {port}\nbind 127.0.0.1\ndir {certificates.folder}\n"
        + "".join(
            f"{name[2:]} {value}\n" for name, value in zip(options[::2], options[1::2], strict=True)
        )
        + f"sentinel monitor prod 127.0.0.1 {primary} 1\n"
        f"user default off\nuser {user} on >{password} allchannels +@all\n"
    )
    process = subprocess.Popen([path, configuration, "--sentinel"], stdout=subprocess.DEVNULL)
    url = f"rediss://{user}:{password}@127.0.0.1:{port}/0?{certificates.options('client')}"
    try:
        with redis.Redis.from_url(url) as client:
            until(client.ping, "the Sentinel with TLS")
        yield port
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def tls_server(folder: Path, *arguments: str) -> Iterator[tuple[int, str]]:
    """One that wants a certificate of its clients: its port, and a URL that has one."""
    certificates = Certificates(folder)
    with tls_port(certificates, "--tls-auth-clients", "yes", *arguments) as port:
        yield port, f"rediss://127.0.0.1:{port}/0?{certificates.options('client')}"
