"""The cluster as one of its nodes sees it."""

from pathlib import Path

import pytest

from evals.servers import Server
from tests.tools.looking import StartServer, client_of, opened, read, until
from tools.capture import capture
from tools.cluster import Cluster, slot_of
from tools.connection import LiveConnection
from tools.reading import NotMeasured
from tools.reads import READS
from tools.recording import RecordedConnection


def alone(build: str, start_server: StartServer) -> Server:
    """A cluster of one node that holds all slots."""
    server = start_server(build, "--cluster-enabled", "yes")
    client = client_of(server)
    for start in range(0, 16_384, 1_024):
        client.execute_command("CLUSTER", "ADDSLOTS", *range(start, start + 1_024))  # type: ignore[no-untyped-call]
    return server


@pytest.mark.parametrize(
    ("key", "slot"),
    # The cluster specification's own check value, and servers' CLUSTER KEYSLOT.
    [(b"123456789", 12739), (b"foo", 12182), (b"{foo}:1", 12182), (b"a{foo}b{bar}", 12182),
     (b"{}foo", 9500), (b"", 0)],
)  # fmt: skip
def test_slots_are_those_of_the_specification(key: bytes, slot: int) -> None:
    assert slot_of(key) == slot


def test_slots_are_those_of_the_server(build: str, start_server: StartServer) -> None:
    client = client_of(alone(build, start_server))
    for key in ("plain", "{tag}:1", "a{}b", "{}", "x{y", "}{", "{a}{b}"):
        asked = client.execute_command("CLUSTER", "KEYSLOT", key)  # type: ignore[no-untyped-call]
        assert slot_of(key.encode()) == asked, key


@pytest.mark.usefixtures("close_samples")
async def test_a_slot_that_gathers_everything_is_found_and_named(
    build: str, start_server: StartServer, tmp_path: Path
) -> None:
    server = alone(build, start_server)
    client = client_of(server)
    await until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")  # type: ignore[no-untyped-call]
    pipe = client.pipeline(transaction=False)
    for n in range(3_000):
        pipe.set(f"{{cart}}:{n}", 1)
        if n % 10 == 0:
            pipe.set(f"user:{n}", 1)
    pipe.execute()
    path = tmp_path / "cluster.jsonl.gz"
    async with opened(server.url) as connection:
        reading = await read(connection, "cluster", Cluster)
        await capture(connection, path)
    assert (reading.enabled, reading.state, reading.size) == (True, "ok", 1)
    assert (reading.slots_owned, reading.fair_share_of_slots) == (16_384, 1.0)
    assert reading.keys == 3_300
    fullest = reading.fullest[0]
    assert (fullest.slot, fullest.keys, fullest.prefix) == (slot_of(b"{cart}"), 3_000, "{cart}:")
    assert fullest.share_of_keys == pytest.approx(3_000 / 3_300)
    assert len(reading.fullest) <= 10
    replayed = await READS["cluster"].call(RecordedConnection(path), {})
    assert replayed == reading, "a recording answers as the server did"


async def test_a_server_without_a_cluster_is_not_asked_for_one(
    server: Server, connection: LiveConnection
) -> None:
    admin = client_of(server)
    before = admin.info("errorstats")
    reading = await read(connection, "cluster", Cluster)
    assert not reading.enabled
    assert isinstance(reading.state, NotMeasured)
    assert reading.state.failure == "disabled"
    assert admin.info("errorstats") == before, "looking costs no error reply"
