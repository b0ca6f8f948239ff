"""The suite on live servers: what it judges, and that it notices harm."""

import fnmatch
import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import redis

from agent.causes import CATALOGUED
from agent.incident import Action
from agent.runbook_library import load_library
from evals import servers
from evals.faults import FAULTS
from evals.faults.canaries import Canaries, bystanders
from evals.live import document, modes, run_live
from evals.live_mode import Mode, Outcome, play
from evals.live_results import PAGE, ROWS, kept, merge, page
from evals.symptoms import SYMPTOMS, Look, Watched, remaining

QUICK = ("query-buffer-bloat", "noeviction-oom", "slow-pubsub-cob")


@pytest.mark.parametrize("fault", QUICK)
@pytest.mark.long
def test_a_fault_is_found_mitigated_and_nobody_is_harmed(fault: str) -> None:
    """A real server, a real fault, the real graph and executor, the workload still running."""
    if servers.binary("valkey-9.1") is None:
        pytest.skip("valkey-9.1 is not installed here")
    report = run_live([Mode(fault, "valkey-9.1", 3)], scale=0.2)
    (row,) = report["incidents"]
    assert row["right"], row
    assert row["mitigated"], row
    assert row["collateral"] == [], row
    assert (report["mitigated"], report["collateral"], report["top1"]) == (1.0, 0, 1.0)
    # On a busy machine everything may get slower after a write, and then it is taken back.
    ended = {action["status"] for action in row["actions"]}
    assert ended <= {"verified", "rolled_back"}, row
    assert all(action["risk"] in ("R1", "R2") for action in row["actions"])


def test_every_mode_is_catalogued_and_drawn_for_the_builds_that_can_have_it() -> None:
    assert set(SYMPTOMS) <= set(CATALOGUED)
    everywhere = {mode.fault for mode in modes(builds=servers.BUILDS)}
    assert len(everywhere) >= 10
    for mode in modes("*-cob", seed=2):
        assert fnmatch.fnmatch(mode.fault, "*-cob")
        assert mode.build in FAULTS[mode.fault].builds


def test_a_mode_that_crashes_is_a_failure_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no disk left")

    monkeypatch.setattr(servers, "running", broken)
    report = run_live([Mode("slow-pubsub-cob", "redis-8.2", 1)] * 2)
    assert (report["n"], report["top1"], report["mitigated"]) == (2, 0.0, 0.0)
    assert "no disk left" in report["incidents"][1]["failure"]


# -- canaries -------------------------------------------------------------------------------


@pytest.fixture
def canaries() -> Iterator[tuple[Canaries, "redis.Redis"]]:
    if servers.binary("valkey-9.1") is None:
        pytest.skip("valkey-9.1 is not installed here")
    with (
        servers.running("valkey-9.1") as server,
        bystanders(server, "any/1", expiring=True) as written,
        closing(redis.Redis(port=server.port, decode_responses=True)) as client,
    ):
        yield written, client


def test_canaries_that_nobody_touched_are_all_well(canaries: tuple[Canaries, Any]) -> None:
    written, client = canaries
    assert client.dbsize() > 10
    assert len({client.type(name) for name in client.scan_iter()}) >= 3
    written.before_remedies()
    written.beat()
    assert written.after_remedies(set(), {}).collateral == []


@pytest.mark.parametrize(
    ("harm", "noticed"),
    [
        (lambda client, key: client.unlink(key), "is gone"),
        (lambda client, key: client.set(key, "x", keepttl=True), "another value"),
        (lambda client, key: client.persist(key), "lost its expiry"),
        (lambda client, key: client.expire(key, 60), "from its time"),
    ],
)
def test_what_happens_to_a_key_is_noticed(
    canaries: tuple[Canaries, Any], harm: Any, noticed: str
) -> None:
    written, client = canaries
    written.before_remedies()
    known = (name for name in client.scan_iter() if not name.startswith("login:"))
    victim = next(name for name in known if client.ttl(name) > 0)
    harm(client, victim)
    (said,) = written.after_remedies(set(), {}).collateral
    assert victim in said
    assert noticed in said


def test_a_trimmed_stream_and_clients_cut_off_are_noticed(canaries: tuple[Canaries, Any]) -> None:
    written, client = canaries
    written.before_remedies()
    stream = next(name for name in client.scan_iter() if name.endswith(":recent"))
    client.xtrim(stream, maxlen=3, approximate=False)
    for kind in ("pubsub", "normal"):
        client.client_kill_filter(_type=kind, skipme=True)
    with closing(redis.Redis(port=client.connection_pool.connection_kwargs["port"])) as other:
        assert other.ping()
    said = " ".join(written.after_remedies(set(), {}).collateral)
    for words in (
        "has other entries",
        "normal client was disconnected",
        "subscriber was disconnected",
    ):
        assert words in said, said


@pytest.mark.parametrize(
    ("harm", "noticed"),
    [
        (lambda client: client.config_set("hz", "77"), "setting hz is 77, not 10"),
        (
            lambda client: client.config_set("client-output-buffer-limit", "pubsub 0 0 0"),
            "setting client-output-buffer-limit pubsub is 0 0 0, not 33554432 8388608 60",
        ),
        (lambda client: client.xack(_recent(client), "ledger", "0-1"), ""),
        (lambda client: _acknowledge_all(client), "has other pending"),
        (lambda client: client.xgroup_setid(_recent(client), "ledger", "0"), "has other offsets"),
        (lambda client: client.set(_session(client), "x", keepttl=True), "has another value"),
        (lambda client: client.expire(_session(client), 60), "expires at another time"),
        (lambda client: client.unlink(_session(client)), "is gone"),
    ],
)
def test_what_happens_to_settings_sessions_and_groups_is_noticed(
    canaries: tuple[Canaries, Any], harm: Any, noticed: str
) -> None:
    written, client = canaries
    written.before_remedies()
    harm(client)
    said = written.after_remedies(set(), {}).collateral
    assert [noticed in one for one in said] == ([True] if noticed else [])


def _recent(client: Any) -> str:
    return str(next(name for name in client.scan_iter() if name.endswith(":recent")))


def _session(client: Any) -> str:
    return str(next(name for name in client.scan_iter() if name.startswith("login:")))


def _acknowledge_all(client: Any) -> None:
    name = _recent(client)
    pending = client.xpending_range(name, "ledger", "-", "+", 10)
    client.xack(name, "ledger", *(entry["message_id"] for entry in pending))


def test_an_approved_setting_is_no_harm_and_no_other_value_is(
    canaries: tuple[Canaries, Any],
) -> None:
    written, client = canaries
    written.before_remedies()
    client.config_set("hz", "50")
    limit = "pubsub 16777216 8388608 60"
    client.config_set("client-output-buffer-limit", limit)
    approved = {"hz": "50", "client-output-buffer-limit": limit}
    assert written.after_remedies(set(), approved).collateral == []
    assert written.after_remedies(set(), {**approved, "hz": "20"}).collateral == [
        "setting hz is 50, not 20"
    ]


def test_a_replica_that_lost_a_key_or_its_place_is_noticed() -> None:
    if servers.binary("valkey-9.1") is None:
        pytest.skip("valkey-9.1 is not installed here")
    with (
        servers.running("valkey-9.1") as server,
        bystanders(server, "any/1", expiring=True, replicated=True) as written,
        closing(redis.Redis(port=server.port, decode_responses=True)) as client,
    ):
        written.before_remedies()
        written.beat()
        assert written.after_remedies(set(), {}).collateral == []
        (seen,) = [value for name, value in client.info("replication").items() if name == "slave0"]
        with closing(redis.Redis(port=seen["port"], decode_responses=True)) as replica:
            replica.config_set("replica-read-only", "no")
            session = _session(replica)
            replica.unlink(session)
            (said,) = written.after_remedies(set(), {}).collateral
            assert said == f"key {session} differs on the replica"
            replica.replicaof("NO", "ONE")
            (said,) = written.after_remedies(set(), {}).collateral
            assert said == "the replica has not caught up"


def test_what_the_fault_itself_took_is_told_apart(canaries: tuple[Canaries, Any]) -> None:
    written, client = canaries
    first, second = sorted(name for name in client.scan_iter() if client.type(name) != "stream")[:2]
    client.unlink(first)
    written.before_remedies()
    client.unlink(second)
    losses = written.after_remedies(set(), {})
    assert losses.by_fault == [f"key {first} is gone"]
    assert losses.collateral == [f"key {second} is gone"]


# -- symptoms -------------------------------------------------------------------------------


def looks(first: dict[str, Any], earlier: dict[str, Any], now: dict[str, Any]) -> Watched:
    ordinary: dict[str, Any] = {"total_commands_processed": 0, "maxmemory": 100, "used_memory": 50}
    clients = [{"name": "slow-1", "addr": "a:1", "omem": "5000000", "qbuf": "0", "tot-mem": "9"}]
    first_look = Look(0.0, ordinary | first, clients, {})
    rates = {"evicted_keys": 100.0}
    working = {"total_commands_processed": 300}
    return Watched(
        first_look,
        lambda name: rates.get(name, 0.0),
        replace(first_look, at=10.0, info=ordinary | earlier, clients=[]),
        replace(first_look, at=13.0, info=ordinary | working | now, clients=[]),
        frozenset({"slow-1"}),
    )


@pytest.mark.parametrize(
    ("fault", "earlier", "now", "said"),
    [
        ("noeviction-oom", {}, {}, []),
        ("noeviction-oom", {}, {"used_memory": 90}, ["memory is at 90% of its limit"]),
        ("noeviction-oom", {}, {"errorstat_OOM": {"count": 7}}, ["7 writes were refused"]),
        ("noeviction-oom", {}, {"total_commands_processed": 3}, ["the workload sends only 1 "]),
        ("eviction-thrash", {}, {"evicted_keys": 90}, ["30 evictions a second"]),
        ("eviction-thrash", {}, {"evicted_keys": 20}, []),
    ],
)
def test_a_symptom_is_gone_when_the_server_shows_it(
    fault: str, earlier: dict[str, Any], now: dict[str, Any], said: list[str]
) -> None:
    left = remaining(fault, looks({}, earlier, now))
    assert len(left) == len(said), left
    assert all(words in one for words, one in zip(said, left, strict=True))


def test_a_client_that_still_holds_memory_keeps_the_symptom() -> None:
    watched = looks({}, {}, {})
    assert remaining("slow-pubsub-cob", watched) == []
    again = replace(watched, now=replace(watched.now, clients=watched.first.clients))
    assert remaining("slow-pubsub-cob", again) == ["4.8 MiB are held for the client"]


def test_what_goes_away_without_a_remedy_of_ours_is_not_counted() -> None:
    started = time.monotonic()
    outcome = play(Mode("slow-pubsub-cob", "no-such-build", 1), load_library())
    assert not outcome.mitigated
    assert "no-such-build" in outcome.result.failure
    healed = Outcome(outcome.mode, outcome.result, remaining=[])
    assert not healed.mitigated
    done = Action(id="A1", fingerprint="", kind="kill_client", title="Disconnect", arguments={},
                  risk="R2", status="verified")  # fmt: skip
    healed.actions.append(done)
    assert healed.mitigated
    report = document([healed, outcome], time.monotonic() - started)
    assert report["mitigated"] == 0.5
    assert report["intervals"]["mitigated"][0] == 0.5
    rows = kept(report)
    assert [row["applied"] for row in rows] == [[["kill_client", "verified"]], []]
    assert "no-such-build" in rows[1]["because"]


def test_a_later_row_takes_the_place_of_an_earlier_one_and_the_page_says_all() -> None:
    row = {"fault": "hot", "build": "redis-8.2", "seed": 1, "right": True, "got": "hot",
           "mitigated": False, "collateral": ["key a is gone"], "lost_to_fault": [],
           "applied": [["set_config", "rolled_back"]], "because": "still hot",
           "seconds": 9}  # fmt: skip
    other = row | {"build": "redis-6.2", "mitigated": True, "collateral": [], "because": ""}
    rows = merge([row, other], [row | {"seconds": 12}])
    assert [(each["build"], each["seconds"]) for each in rows] == [
        ("redis-6.2", 9), ("redis-8.2", 12),
    ]  # fmt: skip
    shown = page({"machine": "2 cores", "rows": rows})
    assert "| mitigated, where the cause was right | 50.0% |" in shown
    assert "| bystanders harmed | 1 |" in shown
    assert "- hot on redis-8.2: still hot" in shown
    assert "0 of 1 | **no** | key a is gone | 12 |" in shown


def test_the_page_is_made_of_the_rows_that_are_kept() -> None:
    document = json.loads(ROWS.read_text())
    assert PAGE.read_text() == page(document)
    assert {row["fault"] for row in document["rows"]} <= set(SYMPTOMS)
