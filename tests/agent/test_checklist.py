"""The production checklist, thresholds and prevention: judged from evidence, with its numbers."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from agent.checklist import CHECKS, evaluate
from agent.figures import Look, Unmeasured, look_up
from agent.incident import ChecklistItem
from agent.prevention import render_prevention
from agent.runbook import AlertThreshold, Runbook
from agent.runbook_library import BASELINE, load_library
from agent.thresholds import crossings
from evals.servers import Server
from tests.agent.readings import MIB, UNSEEN, bigkeys, blank, evidence, prefix
from tools.clients import Clients
from tools.configuration import Configuration
from tools.keyspace import Keyspace
from tools.memory import MemoryInfo
from tools.modules import ModuleRow, Modules
from tools.opening import open_for_reading
from tools.persistence import Persistence
from tools.reading import Evidence, NotMeasured
from tools.reads import READS
from tools.stats import ErrorStats, ServerInfo, Stats

pytestmark = pytest.mark.usefixtures("close_samples")
SEED_LOOKS = (
    "server_info", "memory_info", "config_get", "keyspace", "bigkeys", "stats", "error_stats",
    "persistence",
)  # fmt: skip

UNTOLD = prefix("session:", 9_000, 60 * MIB, 0.9, 1.0).model_copy(
    update={"without_ttl_share": UNSEEN}
)


@pytest.fixture(scope="module")
def seed() -> Runbook:
    return next(book for book in load_library().runbooks if book.id == BASELINE)


def full(**given: Any) -> MemoryInfo:
    """A server with 100 MiB of maxmemory on a 1 GiB host."""
    known: dict[str, Any] = {
        "used_memory": 60 * MIB,
        "used_memory_rss": 70 * MIB,
        "used_memory_peak": 65 * MIB,
        "maxmemory": 100 * MIB,
        "maxmemory_policy": "noeviction",
        "total_system_memory": 1024 * MIB,
        "counted_memory": 60 * MIB,
        "limit": 100 * MIB,
        "limit_source": "maxmemory",
        "pressure": 0.6,
    }
    return blank(MemoryInfo, **(known | given))


def check(name: str, *readings: Any) -> tuple[str, str]:
    try:
        return CHECKS[name](Look(evidence(*readings)))
    except Unmeasured as why:
        return "not_measured", str(why)


def by_check(items: Sequence[ChecklistItem]) -> dict[str, ChecklistItem]:
    words = {"maxmemory": "`maxmemory`", "swap": "swap", "persistence": "AOF", "plans": "plans"}
    return {name: item for name, word in words.items() for item in items if word in item.text}


# -- on real servers --------------------------------------------------------------------------


async def looked(server: Server, *tools: str) -> list[Evidence]:
    """Evidence of these tools from a live server."""
    connection = await open_for_reading(server.url)
    try:
        readings = await asyncio.gather(*(READS[name].call(connection, {}) for name in tools))
    finally:
        await connection.close()
    return [
        Evidence(
            id=f"E{number}",
            tool=name,
            args={},
            reading=reading.model_dump(mode="json"),
            measured=not isinstance(reading, NotMeasured),
            taken_at=connection.now(),
            target="t",
            node=connection.node,
        )
        for number, (name, reading) in enumerate(zip(tools, readings, strict=True), 1)
    ]


async def test_the_seeds_checklist_on_a_full_server(
    build: str, start_server: Callable[..., Server], seed: Runbook
) -> None:
    """Memory above 85 %, nothing persisted, no key expires: each line says so with numbers."""
    server = start_server(build, "--maxmemory", "20mb", "--maxmemory-policy", "noeviction")
    fill(server, share=0.95)
    seen = await looked(server, *SEED_LOOKS)

    items = by_check(evaluate([seed], seen))
    assert {name: item.result for name, item in items.items()} == {
        "maxmemory": "fail",
        "swap": "not_measured",
        "persistence": "fail",
        "plans": "fail",
    }
    assert "maxmemory 20.0 MiB, policy noeviction" in items["maxmemory"].because
    assert "swapon --show" in items["swap"].because
    assert "neither RDB nor AOF" in items["persistence"].because
    assert "peak " in items["plans"].because
    assert items["maxmemory"].evidence == ["E2"]

    fired = [(c.severity, c.state) for c in crossings([seed], seen) if "pressure" in c.when]
    assert fired == [("warning", "fired"), ("critical", "fired")]

    capacity, cleanup, monitoring = render_prevention([seed], seen)
    assert "not measured" not in capacity + cleanup + monitoring
    assert "the limit 20.0 MiB" in capacity
    assert '"session:"' in cleanup
    assert "100.0 % of its keys never expire" in cleanup
    assert "instantaneous_ops_per_sec (now " in monitoring


async def test_the_seeds_checklist_on_a_healthy_server(
    build: str, start_server: Callable[..., Server], seed: Runbook
) -> None:
    server = start_server(build, "--maxmemory", "100mb")
    redis.Redis(port=server.port).config_set("save", "3600 1")
    seen = await looked(server, *SEED_LOOKS)
    items = by_check(evaluate([seed], seen))
    assert {name: item.result for name, item in items.items()} == {
        "maxmemory": "pass",
        "swap": "not_measured",
        "persistence": "pass",
        "plans": "pass",
    }
    assert "RDB save '3600 1'" in items["persistence"].because
    states = {c.when: c.state for c in crossings([seed], seen)}
    assert states.pop("persistence.aof_pending_bio_fsync") == "not_measured"  # AOF is off
    assert set(states.values()) == {"quiet"}


async def test_every_check_judges_a_real_server_or_says_why_not(
    build: str, start_server: Callable[..., Server]
) -> None:
    """No check may fail on what a real server answers, with everything looked at."""
    server = start_server(build, "--maxmemory", "200mb")  # Valkey's backlog is 10 MB
    fill(server, share=0.1)
    redis.Redis(port=server.port).xadd("orders", {"a": "b"})
    tools = [name for name in READS if not required_arguments(name)]
    seen = await looked(server, *tools)
    unclear: dict[str, str] = {}
    failed: dict[str, str] = {}
    for name, judge in CHECKS.items():
        look = Look(seen)
        try:
            result, because = judge(look)
        except Unmeasured as why:
            unclear[name] = str(why)
            continue
        assert look.used
        if result == "fail":
            failed[name] = because
    # What a server cannot tell, what an idle one has none of, and what 7.0 cannot be asked gently.
    streams = {"streams_acknowledged", "streams_bounded"} if build < "redis-7.2" else set()
    assert set(unclear) <= {"swap", "hit_ratio", "fragmentation_low"} | streams, unclear
    expected = {"persistence_settings", "keys_expire"}
    # The servers' own defaults: no limit for normal clients, 1 GB for one request.
    assert set(failed) == expected | {"normal_buffers_bounded", "query_buffers_bounded"}, failed


def required_arguments(tool: str) -> list[str]:
    return [n for n, field in READS[tool].args.model_fields.items() if field.is_required()]


def fill(server: Server, share: float) -> None:
    """Keys without an expiry under `session:` up to this share of maxmemory."""
    client = redis.Redis(port=server.port)
    limit = int(client.config_get("maxmemory")["maxmemory"] or 0)
    for start in range(0, 100_000, 50):
        if client.info("memory")["used_memory"] >= share * limit:
            return
        client.mset({f"session:{n}": "x" * 4_000 for n in range(start, start + 50)})
    raise AssertionError("the server did not fill")


# -- each check -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "readings", "result", "says"),
    [
        ("maxmemory_set", [full()], "pass", "60.0 % of it is used"),
        ("maxmemory_set", [full(maxmemory=0)], "fail", "nothing limits the server"),
        ("maxmemory_set", [full(pressure=0.9)], "fail", "no headroom"),
        ("maxmemory_set", [full(maxmemory=1000 * MIB)], "fail", "no room"),
        ("maxmemory_set", [full(maxmemory=UNSEEN)], "not_measured", "does not report"),
        ("maxmemory_set", [], "not_measured", "memory_info was not run"),
        ("swap", [full()], "not_measured", "/proc/<pid>/smaps"),
        ("swap", [full(used_memory=200 * MIB)], "fail", "130.0 MiB below what is used"),
        ("capacity_plan", [full()], "pass", "stats was not run"),
        ("capacity_plan", [full(used_memory_peak=95 * MIB)], "fail", "95.0 % of 100.0 MiB"),
        ("capacity_plan", [full(pressure=0.8)], "fail", "now 80.0 %"),
        ("capacity_plan", [full(limit=UNSEEN)], "not_measured", "does not report"),
        ("no_monitor", [blank(Clients, monitors=1)], "fail", "1 clients run MONITOR"),
        ("no_monitor", [blank(Clients)], "pass", "0 clients"),
        ("modules_known", [blank(Modules)], "pass", "no modules"),
        (
            "modules_known",
            [blank(Modules, modules=[ModuleRow(name="search", version=1)])],
            "not_measured",
            "search",
        ),
        (
            "keys_expire",
            [bigkeys([], [UNTOLD, prefix("cache:", 900, 5 * MIB, 0.1, 0.0)])],
            "not_measured",
            'TTLs under "session:" were not measured',
        ),
        ("saves_work", [blank(Persistence, rdb_last_bgsave_status="err")], "fail", "err"),
        (
            "eviction_policy",
            [full(maxmemory_policy="volatile-lru"), blank(Keyspace, expires_share=0.0)],
            "fail",
            "0.0 % of keys",
        ),
        (
            "eviction_policy",
            [full(), blank(ErrorStats, oom_per_second=3.0)],
            "fail",
            "refused with OOM",
        ),
        (
            "expiry_keeps_up",
            [blank(Stats, expired_stale_perc=12.7), blank(ServerInfo, hz=1)],
            "fail",
            "12.7 %",
        ),
    ],
)
def test_a_check_says_why(name: str, readings: list[Any], result: str, says: str) -> None:
    got, because = check(name, *readings)
    assert got == result, because
    assert says in because


def limits(value: str, **more: str) -> Configuration:
    parameters = {"client-output-buffer-limit": value} | more
    return Configuration(parameters=parameters, unknown=[])


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        ("pubsub", "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", "pass"),
        ("pubsub", "normal 0 0 0 slave 268435456 67108864 60 pubsub 0 0 0", "fail"),
        ("replica", "normal 0 0 0 replica 0 0 0 pubsub 0 0 0", "fail"),
        ("replica", "normal 0 0 0 slave 268435456 67108864 60 pubsub 0 0 0", "pass"),
        ("pubsub", "normal 0 0 0 slave 0 0 0 pubsub 268435456 0 0", "fail"),  # above maxmemory
        ("normal", "normal 0 0 0 slave 0 0 0 pubsub 0 0 0", "fail"),
        ("normal", "nonsense", "not_measured"),
    ],
)
def test_output_buffer_limits_are_read_as_the_server_prints_them(
    kind: str, value: str, result: str
) -> None:
    assert check(f"{kind}_buffers_bounded", limits(value), full())[0] == result


def test_maxmemory_clients_bounds_normal_clients() -> None:
    read = limits("normal 0 0 0", **{"maxmemory-clients": "5%"})
    assert check("normal_buffers_bounded", read) == ("pass", "maxmemory-clients is 5%")


@pytest.mark.parametrize(
    ("save", "aof", "state", "policy", "result"),
    [
        ("3600 1", 0, "ok", "noeviction", "pass"),
        ("", 1, "ok", "noeviction", "pass"),
        ("", 0, "ok", "noeviction", "fail"),
        ("", 0, "ok", "allkeys-lru", "pass"),
        ("3600 1", 0, "err", "noeviction", "fail"),
    ],
)
def test_persistence_is_judged_by_settings_and_last_status(
    save: str, aof: int, state: str, policy: str, result: str
) -> None:
    settings = Configuration(parameters={"save": save, "appendfsync": "everysec"}, unknown=[])
    seen = blank(Persistence, aof_enabled=aof, rdb_last_bgsave_status=state)
    got, because = check("persistence_settings", settings, seen, full(maxmemory_policy=policy))
    assert got == result, because


@pytest.mark.parametrize(
    ("growth", "says", "result"),
    [
        (0.0, "no growth beyond noise", "pass"),
        (100_000.0, "no growth beyond noise", "pass"),  # 0.5 MB in 5 s: noise
        (MIB, "full in 40 s at this pace", "fail"),
    ],
)
def test_growth_is_extrapolated_only_beyond_noise(growth: float, says: str, result: str) -> None:
    stats = blank(Stats, seconds=5.0, used_memory_per_second=growth)
    got, because = check("capacity_plan", full(), stats)
    assert says in because
    assert got == result


# -- the list as a whole ----------------------------------------------------------------------


def book(body: str, **front: Any) -> Runbook:
    given = {"id": "ours", "title": "Ours"} | front
    return Runbook.model_validate({"front": given, "body": body, "path": "ours.md"})


def test_a_line_without_a_check_goes_to_a_person() -> None:
    (item,) = evaluate([book("## Production Checklist\n- [ ] Ask \x1b[31mthe owner.\n")], [])
    assert item.result == "not_measured"
    assert "a person" in item.because
    assert "\x1b" not in item.text


def test_the_same_check_of_two_runbooks_appears_once(seed: Runbook) -> None:
    other = book("## Production Checklist\n- [x] The limit is set. <!-- check: maxmemory_set -->\n")
    (item,) = evaluate([other], evidence(full()))
    assert (item.text, item.result) == ("The limit is set.", "pass")
    items = evaluate([other, seed], evidence(full()))
    assert [item.runbook for item in items] == [BASELINE] * 4


def test_a_checklist_of_thousands_of_lines_is_cut() -> None:
    lines = "".join(f"- [ ] Line {n}.\n" for n in range(5_000))
    assert len(evaluate([book(f"## Production Checklist\n{lines}")], [])) == 40


def test_every_check_says_what_it_means() -> None:
    assert [name for name, judge in CHECKS.items() if not judge.__doc__] == []


# -- figures, thresholds, prevention ----------------------------------------------------------


def test_the_newest_look_that_measured_it_answers() -> None:
    seen = evidence(full(used_memory=1), full(used_memory=2), full(used_memory=UNSEEN))
    figure = look_up(seen, "memory_info.used_memory")
    assert (figure.value, figure.evidence) == (2, ("E2",))


@pytest.mark.parametrize(
    ("bound", "value", "state"),
    [
        ({"above": 0.75}, 0.76, "fired"),
        ({"above": 0.75}, 0.75, "quiet"),
        ({"below": 0.5}, 0.4, "fired"),
        ({"below": 0.5}, 0.6, "quiet"),
        ({"above": 0.75}, UNSEEN, "not_measured"),
    ],
)
def test_a_threshold_fires_beyond_its_bound(
    bound: dict[str, float], value: Any, state: str
) -> None:
    asked = AlertThreshold.model_validate({"when": "memory_info.pressure"} | bound)
    (crossing,) = crossings([book("", alerts=[asked])], evidence(full(pressure=value)))
    assert crossing.state == state
    assert crossing.evidence == ["E1"]
    if state == "fired" and "above" in bound:
        assert crossing.because == "memory_info.pressure is 76.0 %, above 75.0 %"


def test_a_state_fires_when_it_is_equal() -> None:
    asked = AlertThreshold(when="persistence.rdb_last_bgsave_status", equals="err")
    seen = evidence(blank(Persistence, rdb_last_bgsave_status="err"))
    assert [c.state for c in crossings([book("", alerts=[asked])], seen)] == ["fired"]
