"""Ports of throwaway servers."""

import socket

import psutil
import pytest
import redis

from evals.servers import free_port, running


def test_a_port_leaves_room_for_a_clusters_bus_and_is_given_to_no_connection() -> None:
    ports = {free_port() for _ in range(100)}
    assert len(ports) > 50
    assert all(port >= 10_000 and port + 10_000 < 32_768 for port in ports)


def test_a_stopped_server_leaves_no_save_behind(build: str) -> None:
    with running(build) as server, redis.Redis(port=server.port) as client:
        client.mset({f"k{n}": "x" for n in range(1_000)})
        client.config_set("rdb-key-save-delay", 1_000_000)
        client.bgsave()
        (child,) = psutil.Process(server.pid).children()
        assert child.is_running()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()


def test_a_port_that_was_just_picked_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr("evals.servers.secrets.randbelow", lambda _: port - 10_000)
    with pytest.raises(OSError, match="no free pair"):
        free_port()
    monkeypatch.setattr("evals.servers.PICKED_SECONDS", 0.0)
    assert free_port() == port


def test_a_port_whose_bus_is_taken_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port + 10_000))
        monkeypatch.setattr("evals.servers.PICKED_SECONDS", 0.0)
        monkeypatch.setattr("evals.servers.secrets.randbelow", lambda _: port - 10_000)
        with pytest.raises(OSError, match="no free pair"):
            free_port()
