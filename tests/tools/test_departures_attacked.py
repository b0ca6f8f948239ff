"""What is told to have changed is true also of odd servers, odd numbers and odd moments."""

from datetime import datetime, timedelta

import pytest

from tests.tools.test_departures import NOW, Target, kept_at
from tools.departures import Look, earlier, level
from tools.differences import ServerChanges, server_differences
from tools.shape import Population, ServerShape, shape_of

MINUTE = timedelta(minutes=1)


def seen(at: datetime, **more: object) -> ServerShape:
    """A look at a server without noise, of 100 commands a second until then."""
    done = int((at - NOW).total_seconds() * 100) + 10**9
    steady: dict[str, object] = {"calls": {"get": done}, "counters": {}, "parameters": {}}
    return Target(1).server(at).model_copy(update=steady | more)


def then(**more: object) -> list[ServerShape]:
    return [seen(at, **more) for at in kept_at(72)]


def clients(**counts: int) -> list[Population]:
    return [Population(client=name, count=n) for name, n in counts.items()]


def test_a_rate_that_rose_before_our_seconds_is_not_dated_to_them() -> None:
    """Two minutes ago it went to 1,000 a second: a part of the mean since the last look."""
    kept = then()
    extra = {"calls": {"get": 10**9 + 900 * 120}}
    after = {"calls": {"get": 10**9 + 900 * 125 + 500}}
    now, later = seen(NOW, **extra), seen(NOW + timedelta(seconds=5), **after)
    (found,) = server_differences(kept, now, (now, later)).commands
    assert found.last_before <= NOW - 2 * MINUTE <= found.first_after
    assert found.after_per_second == pytest.approx(1_000, rel=0.1)


def test_a_server_that_ran_before_was_not_started_again() -> None:
    """A name or a virtual address that leads to another one now."""
    kept = then()
    ran = seen(NOW, run_id="other", started_at=NOW - timedelta(days=90))
    found = server_differences(kept, ran)
    assert found.restarted_at is None
    assert found.answers is not None
    assert found.answers.node_before == found.answers.node_after
    # Behind one address are several: each look is at another one.
    several = [s.model_copy(update={"run_id": "rqz"[n % 3]}) for n, s in enumerate(kept)]
    assert server_differences(several, seen(NOW, run_id="q")).told() == []


def test_a_restart_that_was_looked_at_since_is_told() -> None:
    kept = then()
    began = kept[-2].at + MINUTE
    again = {"run_id": "other", "started_at": began}
    kept[-1] = kept[-1].model_copy(update=again)
    assert server_differences(kept, seen(NOW, **again)).restarted_at == began


def test_our_own_commands_are_known_by_the_names_of_6_2_too() -> None:
    """Which counts `MEMORY USAGE` and `OBJECT ENCODING` as `memory` and `object`."""
    walked = {"memory": 90_000, "object": 180_000, "config": 900}
    now, later = seen(NOW), seen(NOW + timedelta(seconds=5))
    later = later.model_copy(update={"calls": later.calls | walked})
    assert server_differences(then(), now, (now, later)).told() == []


def test_counters_that_were_reset_and_have_passed_are_no_rate() -> None:
    """RESETSTAT an instant after the last look: some of the counters are beyond what they were."""
    kept = [
        s.model_copy(
            update={
                "counters": {
                    "input_bytes_per_second": s.calls["get"] * 10_000,
                    "output_bytes_per_second": 10 + n,
                }
            }
        )
        for n, s in enumerate(then())
    ]
    was = kept[-1].counters["input_bytes_per_second"]
    less = {"input_bytes_per_second": was + 9_000, "output_bytes_per_second": 5}
    assert server_differences(kept, seen(NOW, counters=less)).told() == []


def test_what_could_not_be_counted_is_not_none_of_it() -> None:
    info = {f"db{n}": "keys=5000,expires=0" for n in range(16)}
    some = shape_of(info, NOW, "n:1")
    many = shape_of(info | {"db16": "keys=1,expires=0"}, NOW + MINUTE, "n:1")
    odd = shape_of({"db0": "keys=,expires=0"}, NOW + MINUTE, "n:1")
    before = [some.model_copy(update={"at": at}) for at in kept_at(30)]
    assert server_differences(before, many).databases == []
    assert server_differences(before, odd).databases == []
    empty = server_differences(before, shape_of({}, NOW + MINUTE, "n:1"))
    assert len(empty.databases) == 10


def test_what_a_server_does_not_say_of_itself_is_no_other_version_or_role() -> None:
    """A service that hides INFO server, or half of INFO replication."""
    silent = shape_of({"role": "slave"}, NOW, "10.0.0.1:6379")
    assert (silent.flavour, silent.role, silent.primary) == ("", "replica", "")
    assert shape_of({}, NOW, "n:1").role == ""
    keys_only = shape_of({"db0": "keys=100000"}, NOW, "10.0.0.1:6379")
    assert server_differences(then(), keys_only).told() == []
    assert server_differences(then(flavour="", role=""), seen(NOW)).told() == []


@pytest.mark.parametrize("number", ["9" * 900, "-5", "nan", "1e5", "", "\u0663"])
def test_numbers_that_no_server_counts_are_none(number: str) -> None:
    """They break nothing, and are no zero that another look would be compared with."""
    info = {
        "total_net_input_bytes": number, "cmdstat_get": f"calls={number},usec=1",
        "db0": f"keys={number}", "run_id": "r", "uptime_in_seconds": number,
    }  # fmt: skip
    shape = shape_of(info, NOW, "n:1")
    assert (shape.counters, shape.calls, shape.keys, shape.started_at) == ({}, {}, None, None)
    assert told(server_differences(then(), shape)) == []


def told(found: ServerChanges) -> list[str]:
    """Of levels."""
    rows = [*found.databases, *found.commands]
    return [*found.levels, *(str(row) for row in rows)]


def test_of_a_list_of_clients_that_was_cut_off_only_more_is_told() -> None:
    """There may be as many as ever behind the first ten thousand."""
    kept = then(clients=clients(api=6_000, web=100))
    cut = seen(NOW, clients=clients(api=500, web=9_400), all_clients=False, to_its_end=False)
    assert [row.client for row in server_differences(kept, cut).clients] == ["web"]
    early = then(clients=clients(api=20), all_clients=False, to_its_end=False)
    assert server_differences(early, seen(NOW, clients=clients(api=400))).clients == []


def test_what_changed_last_is_told_first_and_then_the_largest() -> None:
    """A change is told for two weeks: an old one, however large, hides no new one."""
    old, kept = clients(grown=900), then(clients=clients(grown=50))
    kept[6:] = [s.model_copy(update={"clients": old}) for s in kept[6:]]
    now = seen(NOW, clients=[*old, *clients(importer=40, batch=60)])
    told = [row.client for row in server_differences(kept, now).clients]
    assert told == ["batch", "importer", "grown"]


def test_looks_of_a_clock_that_ran_ahead_are_not_compared() -> None:
    ahead = [s.model_copy(update={"at": s.at + timedelta(days=4)}) for s in then()]
    assert earlier([*then(), *ahead], seen(NOW)) == then()
    assert earlier(ahead, seen(NOW)) == []


def test_a_value_that_may_be_more_is_the_most_of_nothing() -> None:
    looks = [Look(at, 100.0) for at in kept_at(30)]
    assert level([*looks, Look(NOW, 10.0, at_least=True)], 50) is None
    assert level([*looks, Look(NOW, 900.0, at_least=True)], 50) is not None
