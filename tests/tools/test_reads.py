"""Each read-only tool on each server build, held against an independent client's numbers."""

import pytest
import redis
from pydantic import ValidationError

from evals.servers import Server
from tests.tools.looking import (
    StartServer,
    ask,
    client_of,
    look,
    read,
    until,
)
from tools.access import AclLog
from tools.configuration import Configuration
from tools.connection import LiveConnection
from tools.memory import MemoryDoctor, MemoryInfo, MemoryStats, memory_info_of
from tools.modules import Modules
from tools.permissions import CONFIG_PARAMETERS
from tools.persistence import Persistence
from tools.reading import NotMeasured
from tools.reads import READS
from tools.replication import Replication
from tools.scripts import Scripts
from tools.stats import ServerInfo
from tools.summaries import LONGEST, summarize

# The catalogue.


def test_every_tool_states_its_source() -> None:
    assert [name for name, tool in READS.items() if "Source:" not in tool.description] == []


def test_every_tool_has_one_name_and_its_own_arguments() -> None:
    assert all(name == tool.name for name, tool in READS.items())
    assert len({tool.args for tool in READS.values()}) == len(READS)


@pytest.mark.parametrize("name", READS)
async def test_every_tool_yields_a_reading_with_a_short_summary(
    name: str, connection: LiveConnection
) -> None:
    reading = await look(connection, name)
    line = summarize(reading)
    assert 0 < len(line) <= LONGEST
    assert line.isprintable()
    if isinstance(reading, NotMeasured):
        assert reading.failure in ("disabled", "unknown_command", "absent", "not_configured")


# Memory.


async def test_memory_info_is_what_info_says(server: Server, connection: LiveConnection) -> None:
    admin = client_of(server)
    admin.config_set("maxmemory", 50_000_000)
    admin.config_set("maxmemory-policy", "allkeys-lru")
    admin.mset({f"k{i}": "x" * 1000 for i in range(5000)})
    reading = await read(connection, "memory_info", MemoryInfo)
    info = admin.info("memory")
    assert reading.used_memory == pytest.approx(info["used_memory"], rel=0.05)
    assert reading.maxmemory == reading.limit == 50_000_000
    assert reading.limit_source == "maxmemory"
    assert reading.maxmemory_policy == "allkeys-lru"
    assert reading.mem_allocator == info["mem_allocator"]
    assert reading.total_system_memory == info["total_system_memory"]
    assert isinstance(reading.used_memory, int)
    assert isinstance(reading.mem_not_counted_for_evict, int)
    assert reading.counted_memory == reading.used_memory - reading.mem_not_counted_for_evict
    assert isinstance(reading.counted_memory, int)
    assert reading.pressure == pytest.approx(reading.counted_memory / 50_000_000)
    missing = [n for n, v in reading if isinstance(v, NotMeasured)]
    assert missing == [], "6.2 and its successors report all of it"


async def test_without_maxmemory_the_limit_says_where_it_comes_from(
    connection: LiveConnection,
) -> None:
    host = await read(connection, "memory_info", MemoryInfo)
    assert (host.limit, host.limit_source) == (host.total_system_memory, "host memory")
    given = await read(connection, "memory_info", MemoryInfo, memory_limit=100_000_000)
    assert (given.limit, given.limit_source) == (100_000_000, "configured memory limit")
    assert isinstance(given.counted_memory, int)
    assert given.pressure == given.counted_memory / 100_000_000


def test_missing_and_unreadable_fields_are_not_measured_and_never_zero() -> None:
    reading = memory_info_of({"used_memory": "1024", "mem_fragmentation_ratio": "nan"}, None)
    assert reading.used_memory == 1024
    assert isinstance(reading.used_memory_rss, NotMeasured)
    assert isinstance(reading.mem_fragmentation_ratio, NotMeasured)
    assert "'nan'" in reading.mem_fragmentation_ratio.because
    for name in ("limit", "counted_memory", "pressure"):
        assert isinstance(getattr(reading, name), NotMeasured), name
    assert reading.limit_source == "none known"


async def test_memory_stats_adds_up_the_databases(
    server: Server, connection: LiveConnection
) -> None:
    for db in (0, 3):
        redis.Redis(port=server.port, db=db).mset({f"k{i}": "x" * 20_000 for i in range(300)})
    admin = client_of(server)

    def tables() -> int:
        return sum(admin.memory_stats()[f"db.{db}"]["overhead.hashtable.main"] for db in (0, 3))

    before = tables()
    reading = await read(connection, "memory_stats", MemoryStats)
    assert isinstance(reading.hashtable_main, int)
    assert tables() <= reading.hashtable_main <= before, "a rehash may end in between"
    stats = admin.memory_stats()
    assert reading.keys_count == 600
    assert reading.dataset_bytes == pytest.approx(stats["dataset.bytes"], rel=0.1)
    assert isinstance(reading.dataset_percentage, float)
    assert 0 < reading.dataset_percentage <= 100


async def test_memory_doctor_gives_its_opinion(server: Server, connection: LiveConnection) -> None:
    reading = await read(connection, "memory_doctor", MemoryDoctor)
    assert reading.text == str(ask(client_of(server), "MEMORY DOCTOR")).rstrip()


# Configuration.


async def test_config_get_reads_the_whole_allow_list_and_never_a_password(
    server: Server, connection: LiveConnection
) -> None:
    admin = client_of(server)
    admin.config_set("masterauth", "hunter2")
    reading = await read(connection, "config_get", Configuration)
    assert set(reading.parameters) | set(reading.unknown) == set(CONFIG_PARAMETERS)
    for name, value in reading.parameters.items():
        assert admin.config_get(name)[name] == value
    for name in reading.unknown:
        assert admin.config_get(name) == {}
    assert "hunter2" not in reading.model_dump_json()


async def test_config_get_of_a_few(connection: LiveConnection) -> None:
    reading = await read(
        connection, "config_get", Configuration, parameters=["maxmemory", "MAXMEMORY", "hz"]
    )
    assert reading.parameters == {"maxmemory": "0", "hz": "10"}
    assert reading.unknown == []


@pytest.mark.parametrize("name", ["requirepass", "masterauth", "*", "maxmem*", "tls-key-file-pass"])
def test_config_get_of_anything_else_does_not_fit(name: str) -> None:
    with pytest.raises(ValidationError):
        READS["config_get"].args.model_validate({"parameters": ["maxmemory", name]})


async def test_server_info_tells_redis_from_valkey(
    server: Server, build: str, connection: LiveConnection
) -> None:
    reading = await read(connection, "server_info", ServerInfo)
    info = client_of(server).info("server")
    kind, _, version = build.partition("-")
    assert reading.flavour.startswith(f"{kind} {version}.")
    assert (reading.run_id, reading.process_id) == (info["run_id"], server.pid)
    assert reading.redis_mode == "standalone"
    assert isinstance(reading.round_trip_seconds, float)
    assert 0 < reading.round_trip_seconds < 1


# Persistence, replication.


async def test_persistence_after_a_snapshot(server: Server, connection: LiveConnection) -> None:
    admin = client_of(server)
    admin.set("a", 1)
    admin.bgsave()
    await until(lambda: admin.info("persistence")["rdb_bgsave_in_progress"] == 0)
    admin.set("b", 1)
    reading = await read(connection, "persistence", Persistence)
    assert reading.rdb_last_bgsave_status == "ok"
    assert reading.rdb_changes_since_last_save == 1
    assert reading.aof_enabled == 0
    assert isinstance(reading.seconds_since_last_save, int)
    assert 0 <= reading.seconds_since_last_save < 20


async def test_replication_seen_from_both_sides(start_server: StartServer, build: str) -> None:
    primary = start_server(build, "--repl-diskless-sync-delay", "0")
    replica = start_server(build)
    admin, follower = client_of(primary), client_of(replica)
    follower.replicaof("127.0.0.1", primary.port)
    await until(lambda: admin.info("replication").get("slave0", {}).get("state") == "online", 20)
    await until(lambda: bool(follower.info("replication")["master_link_status"] == "up"), 20)
    admin.set("k", "v")
    for server, role in ((primary, "master"), (replica, "slave")):
        connection = LiveConnection(server.url)
        await connection.open()
        reading = await read(connection, "replication", Replication)
        assert connection.node == f"127.0.0.1:{server.port} ({role})"
        await connection.close()
        assert reading.role == role
        assert reading.master_replid == admin.info("replication")["master_replid"]
        if role == "master":
            assert [row.address for row in reading.replicas] == [f"127.0.0.1:{replica.port}"]
            assert reading.replicas[0].state == "online"
            assert 0 <= reading.replicas[0].lag_bytes < 10_000
            assert reading.master_link_status is None
        else:
            assert (reading.master_host, reading.master_port) == ("127.0.0.1", primary.port)
            assert reading.master_link_status == "up"
            assert reading.slave_read_only == 1
            assert reading.replicas == []


# Scripts, access, modules.


async def test_scripts_are_counted_and_functions_named_without_their_code(
    server: Server, build: str, connection: LiveConnection
) -> None:
    admin = client_of(server)
    for i in range(3):
        admin.script_load(f"return 'SECRETCODE{i}'")
    if build != "redis-6.2":
        code = "redis.register_function('f', function() return 'SECRETCODE' end)"
        admin.function_load(f"#!lua name=mylib\n{code}")
    reading = await read(connection, "scripts", Scripts)
    assert "SECRETCODE" not in reading.model_dump_json()
    assert reading.number_of_cached_scripts == 3
    assert isinstance(reading.used_memory_vm_eval, int)
    assert isinstance(reading.used_memory_scripts_eval, int)
    assert reading.used_memory_scripts_eval > 0
    if build == "redis-6.2":
        assert isinstance(reading.libraries, NotMeasured)
        assert reading.libraries.failure == "unknown_command"
        return
    assert isinstance(reading.libraries, list)
    assert [(lib.name, lib.functions) for lib in reading.libraries] == [("mylib", ["f"])]
    assert (reading.number_of_functions, reading.running_script) == (1, "")


async def test_acl_log_names_who_was_refused_what(
    server: Server, connection: LiveConnection
) -> None:
    admin = client_of(server)
    admin.acl_setuser("app", enabled=True, nopass=True, commands=["+get"], keys=["app:*"])
    app = redis.Redis(port=server.port, username="app", password="x", protocol=2)
    for _ in range(3):
        with pytest.raises(redis.exceptions.NoPermissionError):
            app.get("other:1")
    with pytest.raises(redis.exceptions.NoPermissionError):
        app.set("app:1", 1)
    reading = await read(connection, "acl_log", AclLog)
    refused = {(e.reason, e.object, e.username): e.count for e in reading.entries}
    assert refused[("key", "other:1", "app")] == 3
    assert refused[("command", "set", "app")] == 1
    assert reading.total_denials == sum(int(str(e["count"])) for e in admin.acl_log())
    assert all(entry.client_address.startswith("127.0.0.1:") for entry in reading.entries)


async def test_modules(server: Server, connection: LiveConnection) -> None:
    reading = await read(connection, "modules", Modules)
    assert [row.name for row in reading.modules] == [
        module["name"] for module in client_of(server).module_list()
    ]
