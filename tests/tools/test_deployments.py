"""Looking at real clusters, Sentinels and replicas, while they fail over and when they lie."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from agent.reaching import recorded_target
from evals import servers
from evals.servers import Server
from tests.acceptance.program import run
from tests.answering import answering
from tests.deployments import AT_ONCE, cluster, kill, say, told, until, watched
from tools.capture import capture
from tools.catalogue import tool
from tools.connection import CommandFailure, LiveConnection
from tools.keyspace import BigKeys, Keyspace
from tools.node_rows import NodeNumbers, NodeRow
from tools.nodes import Nodes, nodes
from tools.opening import UnreachableConnection, open_for_reading, open_for_remedies
from tools.reading import NotMeasured
from tools.reads import READS
from tools.recording import RecordedConnection, RecordingConnection
from tools.remedies.expiry import ExpirePrefix, ExpirePrefixArguments
from tools.replicas import Walker, WalkOn, healthiest


async def seen(connection: object) -> Nodes:
    found = await tool(nodes).call(connection, {})  # type: ignore[arg-type]
    assert isinstance(found, Nodes), found
    return found


def fill(ports: list[int], tag: str, keys: int, size: int) -> None:
    with redis.RedisCluster(host="127.0.0.1", port=ports[0]) as client:
        for number in range(keys):
            client.set(f"{{{tag}}}:{number}", "x" * size)


@pytest.mark.usefixtures("close_samples")
async def test_a_cluster_is_looked_at_where_the_trouble_is_and_followed(
    build: str, tmp_path: Path
) -> None:
    with cluster(build) as made:
        fill([made.primaries[0].port], "cart", 3_000, 2_000)
        ours = made.owner_of("{cart}:1")
        connection = await open_for_reading(made.url)
        assert connection.node == f"127.0.0.1:{ours.port} (master)"

        found = await seen(connection)
        here = found.rows[0]
        assert (found.kind, found.primaries, found.replicas) == ("cluster", 3, 3)
        assert (found.not_reached, found.failing, found.more_nodes) == (0, 0, 0)
        assert isinstance(here.numbers, NodeNumbers)
        assert here.numbers.keys == 3_000
        assert here.slots in (5461, 5462)
        # The replica of the same shard is next, and has caught up.
        assert (found.rows[1].primary, found.rows[1].lag_bytes) == (here.node, 0)
        assert isinstance(found.others_median_used_bytes, int)
        assert here.numbers.used_bytes > 2 * found.others_median_used_bytes

        keys = [row.numbers.keys for row in found.rows]  # type: ignore[union-attr]
        # A recording holds the other nodes too, under other names if that is asked for.
        for hash_names in (False, True):
            path = tmp_path / f"{hash_names}.jsonl.gz"
            await capture(connection, path, hash_names=hash_names)
            again = await seen(RecordedConnection(path))
            assert [row.numbers.keys for row in again.rows] == keys  # type: ignore[union-attr]
            assert ("127.0.0.1" in again.model_dump_json()) is not hash_names

        # It dies in the middle of a walk: the next look is at whoever serves its slots.
        walk = asyncio.create_task(READS["bigkeys"].call(connection, {}))
        await asyncio.sleep(0.05)
        kill(ours)
        await walk
        sized = await READS["keyspace"].call(connection, {})
        assert isinstance(sized, Keyspace)
        after = (await seen(connection)).rows[0]
        assert after.node != here.node
        assert connection.node == f"{after.node} (master)"
        assert isinstance(after.numbers, NodeNumbers)
        assert after.numbers.keys == 3_000
        await connection.close()


@pytest.mark.long
def test_an_analysis_that_may_only_walk_on_replicas_tells_that_there_are_none(
    tmp_path: Path,
) -> None:
    with cluster("valkey-9.1", replicas=False) as made:
        config = tmp_path / "oncall.yaml"
        config.write_text(f"targets: [{{name: shop, url: '{made.url}', walk_on: replica}}]\n")
        done = run("analyze", "shop", REDIS_ONCALL_CONFIG=str(config))
        assert done.returncode == 1
        assert "none of its replicas is well" in done.stderr
        assert sum(map(walks, (node.port for node in made.primaries))) == 0


async def test_the_labels_of_an_alert_choose_the_node_and_the_remedy_goes_to_the_same() -> None:
    with cluster("valkey-9.1") as made:
        quiet, replica = made.primaries[1], made.replicas[2]
        for server, role in ((quiet, "master"), (replica, "slave")):
            labels = ["critical", f"127.0.0.1:{server.port}"]
            connection = await open_for_reading(made.url, wanted=labels)
            assert connection.node == f"127.0.0.1:{server.port} ({role})"
            await connection.close()
        # We call it by another name than the cluster does.
        connection = await open_for_reading(f"redis://localhost:{quiet.port}", follows=True)
        here, behind, *_ = (await seen(connection)).rows
        assert (behind.primary, behind.lag_bytes) == (here.node, 0)
        await connection.close()
        writing = await open_for_remedies(made.url, node=f"127.0.0.1:{quiet.port} (master)")
        assert writing.node == f"127.0.0.1:{quiet.port} (master)"
        await writing.close()


async def test_a_primary_that_steps_down_is_left_though_the_link_holds() -> None:
    with cluster("valkey-9.1") as made:
        first = made.primaries[0]
        connection = await open_for_reading(made.url, wanted=[f"127.0.0.1:{first.port}"])
        say(made.replicas[0].port, "CLUSTER", "FAILOVER")
        until(lambda: say(first.port, "ROLE")[0] == "slave", "the failover")
        await asyncio.sleep(2.1)  # the role is asked along every two seconds
        await connection.execute("DBSIZE")
        await connection.execute("DBSIZE")
        assert connection.node == f"127.0.0.1:{made.replicas[0].port} (master)"
        await connection.close()


async def test_a_slot_that_moves_away_is_no_failure_of_the_walk() -> None:
    with cluster("valkey-9.1", replicas=False) as made:
        fill([made.primaries[0].port], "moving", 500, 100)
        source = made.owner_of("{moving}:1")
        target = next(p for p in made.primaries if p is not source)
        connection = await open_for_reading(made.url, wanted=[f"127.0.0.1:{source.port}"])
        writing = await open_for_remedies(made.url, node=connection.node)
        expire = ExpirePrefix()
        args = ExpirePrefixArguments(prefix="{moving}:", ttl_seconds=3_600)
        captured = await expire.capture(writing, args)
        captured["done"] = await expire.apply(writing, args, captured)
        gone, *_ = made.migrate("{moving}:1", source, target, most=250)
        # Their expiry went along: nobody says that it was taken back.
        with pytest.raises(CommandFailure, match="250 of 500 keys kept; slots move"):
            await expire.undo(writing, args, captured)
        await writing.close()
        found = await READS["bigkeys"].call(connection, {})
        assert isinstance(found, BigKeys)
        assert found.keys_seen == 250
        assert (await seen(connection)).rows[0].moving_slots == 1
        with pytest.raises(CommandFailure, match="on another node") as moved:
            await connection.execute("MEMORY", "USAGE", gone)
        assert moved.value.kind == "moved"
        await connection.close()


@pytest.mark.long
def test_an_analysis_of_a_cluster_sees_every_shard_and_tells_which_it_missed() -> None:
    with cluster("valkey-9.1") as made:
        with redis.RedisCluster(host="127.0.0.1", port=made.primaries[0].port) as client:
            for number in range(300):
                client.set(f"k:{number}", "x")
        done = run("analyze", made.url, "--json")
        assert done.returncode == 0, done.stderr
        told_of = json.loads(done.stdout)
        assert {one["node"] for one in told_of["nodes"]} == {
            f"127.0.0.1:{node.port} (master)" for node in made.primaries
        }
        assert sum(one["bigkeys"]["keys_seen"] for one in told_of["nodes"]) == 300
        assert told_of["not_measured"] == []

        silent = made.primaries[1]
        os.kill(silent.pid, signal.SIGSTOP)
        # Not waited for: whether its replica takes over meanwhile is the cluster's business.
        done = run("analyze", made.url, "--json")
        os.kill(silent.pid, signal.SIGCONT)
        assert done.returncode == 0, done.stderr
        told_of = json.loads(done.stdout)
        assert len(told_of["nodes"]) + len(told_of["not_measured"]) >= 3
        assert f"127.0.0.1:{silent.port} (master)" not in {one["node"] for one in told_of["nodes"]}

        refused = run("analyze", made.url, "--resume", "x:1")
        assert refused.returncode == 2


async def test_sentinels_say_who_is_the_primary_and_are_asked_again(build: str) -> None:
    with watched(build) as made:
        connection = await open_for_reading(made.url)
        assert connection.node == f"127.0.0.1:{made.primary.port} (master)"
        until(lambda: made.in_sync(), "replicas")
        found = await seen(connection)
        assert (found.kind, found.primaries, found.replicas) == ("replication", 1, 2)
        assert all(row.state == "ok" for row in found.rows)
        kill(made.primary)  # and nobody waits for the Sentinels
        found = await seen(connection)
        assert found.rows[0].node == connection.node.partition(" ")[0]
        assert connection.node == f"127.0.0.1:{made.named()} (master)"
        await connection.close()


async def test_sentinels_that_know_no_such_primary_or_do_not_answer_are_told() -> None:
    with watched("valkey-9.1") as made:
        unknown = await open_for_reading(made.url.replace("prod", "staging"))
        assert isinstance(unknown, UnreachableConnection)
        assert "staging" in str(unknown.failure)
        assert "master_name" in unknown.failure.remedy
    port = servers.free_port()
    gone = await open_for_reading(f"redis-sentinel://u:secret@127.0.0.1:{port}/0?master_name=prod")
    assert isinstance(gone, UnreachableConnection)
    assert "secret" not in str(gone.failure)


async def test_a_sentinel_that_hangs_or_is_none_does_not_keep_the_others(
    start_server: Callable[..., Server],
) -> None:
    none = start_server("valkey-9.1")
    with socket.create_server(("127.0.0.1", 0)) as silent, watched("valkey-9.1") as made:
        hangs = silent.getsockname()[1]
        first = f"redis-sentinel://127.0.0.1:{hangs},127.0.0.1:{none.port},"
        async with asyncio.timeout(12):  # redis-py alone: thrice the retries of each, one by one
            connection = await open_for_reading(made.url.replace("redis-sentinel://", first))
        assert connection.node == f"127.0.0.1:{made.primary.port} (master)"
        await connection.close()
    alone = await open_for_reading(f"redis-sentinel://127.0.0.1:{none.port}/0?master_name=prod")
    assert isinstance(alone, UnreachableConnection)
    assert "unknown command" in str(alone.failure)


async def test_most_sentinels_are_believed() -> None:
    with watched("valkey-9.1") as made, watched("valkey-9.1") as another:
        hosts = [another.sentinels[0], *made.sentinels[:2]]
        url = "redis-sentinel://" + ",".join(f"127.0.0.1:{port}" for port in hosts)
        connection = await open_for_reading(url + "/0?master_name=prod")
        assert connection.node == f"127.0.0.1:{made.primary.port} (master)"
        await connection.close()


async def test_a_node_that_names_no_nodes_is_told() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while said := await reader.readline():
            if said.strip().upper() in (b"CLIENT", b"ROLE"):
                writer.write(b"+OK\r\n")
            elif said.strip().upper() == b"NODES":
                writer.write(b"$0\r\n\r\n")

    async with answering(answer) as port:
        found = await open_for_reading(f"redis-cluster://127.0.0.1:{port}")
    assert isinstance(found, UnreachableConnection)
    assert "names no node" in str(found.failure)


async def test_credentials_go_to_no_node_that_the_url_does_not_lead_to(
    start_server: Callable[..., Server],
) -> None:
    primary = start_server("valkey-9.1", *AT_ONCE)
    replica = start_server("valkey-9.1", "--replicaof", f"127.0.0.1 {primary.port}")
    until(lambda: told(replica.port, "INFO")["master_link_status"] == "up", "the replica")
    connection = LiveConnection(primary.url)
    await connection.open()
    with pytest.raises(CommandFailure, match="credentials are sent to no other"):
        await connection.at(f"127.0.0.1:{replica.port}")
    found = await seen(connection)
    assert [row.role for row in found.rows] == ["primary", "replica"]
    assert isinstance(found.rows[1].numbers, NotMeasured)
    assert "walk_on" in found.rows[1].numbers.remedy
    await connection.close()


@pytest.fixture
def pair(build: str, start_server: Callable[..., Server]) -> tuple[Server, Server]:
    """A primary and its replica, in sync."""
    primary = start_server(build, *AT_ONCE)
    replica = start_server(build)
    say(replica.port, "REPLICAOF", "127.0.0.1", primary.port)
    with redis.Redis(port=primary.port) as client:
        client.mset({f"k:{number}": "x" for number in range(50)})
    until(lambda: offset(replica, "slave") == offset(primary, "master"), "the replica")
    return primary, replica


def offset(server: Server, role: str) -> str:
    return told(server.port, "INFO", "replication").get(f"{role}_repl_offset", f"not {role}")


def walks(port: int) -> int:
    """SCANs that it has served."""
    told_of = told(port, "INFO", "commandstats").get("cmdstat_scan", "calls=0")
    return int(told_of.partition("calls=")[2].partition(",")[0])


@pytest.mark.parametrize("walk_on", ["primary", "prefer_replica", "replica"])
async def test_walks_go_where_the_policy_says(pair: tuple[Server, Server], walk_on: WalkOn) -> None:
    primary, replica = pair
    connection = await open_for_reading(primary.url, follows=walk_on != "primary")
    walker = Walker(connection, walk_on)
    assert await walker.connection_for(READS["memory_info"]) is connection
    node = await walker.connection_for(READS["bigkeys"])
    found = await READS["bigkeys"].call(node, {})
    assert isinstance(found, BigKeys)
    assert found.keys_seen == 50
    # Of a replica they would say when it, not the primary, was asked for a key.
    idle = found.prefixes[0].median_idle_seconds
    assert isinstance(idle, NotMeasured) is (walk_on != "primary")
    expected = (primary, "master") if walk_on == "primary" else (replica, "slave")
    assert node.node == f"127.0.0.1:{expected[0].port} ({expected[1]})"
    assert (walks(primary.port) > 0) is (walk_on == "primary")
    await connection.close()


async def test_a_recording_of_a_walk_on_a_replica_is_walked_there_again(
    pair: tuple[Server, Server], tmp_path: Path
) -> None:
    live = await open_for_reading(pair[0].url, follows=True)
    recorder = RecordingConnection(live, tmp_path / "walk.jsonl.gz")
    node = await Walker(recorder, "replica").connection_for(READS["bigkeys"])
    found = await READS["bigkeys"].call(node, {})
    assert isinstance(found, BigKeys)
    await recorder.close()

    again = RecordedConnection(tmp_path / "walk.jsonl.gz")
    target = recorded_target("walk", again.recording)
    assert target.has_several_nodes
    node = await Walker(again, target.walk_on).connection_for(READS["bigkeys"])
    assert node.node == f"127.0.0.1:{pair[1].port} (slave)"
    seen = await READS["bigkeys"].call(node, {})
    assert isinstance(seen, BigKeys)
    assert (seen.keys_seen, seen.bytes_seen) == (found.keys_seen, found.bytes_seen)


@pytest.mark.parametrize("walk_on", ["prefer_replica", "replica"])
async def test_a_replica_that_is_not_well_is_not_walked_on(
    pair: tuple[Server, Server], walk_on: WalkOn
) -> None:
    primary, replica = pair
    say(replica.port, "REPLICAOF", "127.0.0.1", servers.free_port())
    say(replica.port, "CONFIG", "SET", "replica-announce-port", "0")
    os.kill(replica.pid, signal.SIGSTOP)
    connection = await open_for_reading(primary.url, follows=True)
    walker = Walker(connection, walk_on)
    if walk_on == "prefer_replica":
        assert await walker.connection_for(READS["bigkeys"]) is connection
    else:
        with pytest.raises(CommandFailure, match="choose a replica") as told_of:
            await walker.connection_for(READS["bigkeys"])
        assert "prefer_replica" in told_of.value.remedy
        assert walks(primary.port) == 0
    await connection.close()


def replica(name: str, **numbers: object) -> NodeRow:
    well = NodeNumbers(
        version="9.1.2", used_bytes=1, limit_bytes=0, ops_per_second=5, connected_clients=1, keys=1,
        link="up", offset_bytes=1, refuses_writes=False,
    )  # fmt: skip
    row = NodeRow(node=name, role="replica", primary="p:1", state="ok", lag_bytes=0, numbers=well)
    lag = numbers.pop("lag_bytes", 0)
    return row.model_copy(update={"numbers": well.model_copy(update=numbers), "lag_bytes": lag})


def test_the_replica_with_the_least_to_do_is_walked_on_among_those_that_are_well() -> None:
    rows = [
        replica("down:1", link="down", ops_per_second=0),
        replica("late:1", lag_bytes=17 * 1024**2, ops_per_second=0),
        replica("busy:1", ops_per_second=900),
        replica("calm:1", ops_per_second=9),
    ]
    assert healthiest(rows) == "calm:1"
    with pytest.raises(CommandFailure, match=r"down:1: its link .* late:1: it is 17,825,792 bytes"):
        healthiest(rows[:2])
    with pytest.raises(CommandFailure, match="the primary has none"):
        healthiest([])
