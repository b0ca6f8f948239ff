"""What is told to have changed: over many seeded healthy targets nothing, and what was changed."""

import math
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tools.departures import Look, level, share, word
from tools.differences import KeyChanges, ServerChanges, key_differences, server_differences
from tools.shape import KeyGroup, KeyShape, Population, ServerShape

NOW = datetime(2026, 11, 30, 3, 7, tzinfo=UTC)
SEEDS = 15


def kept_at(hours: float) -> list[datetime]:
    """When looks are kept that are there after so many hours: as they are thinned."""
    ages = {15 * n / 60 for n in range(1, 13)} | set(range(1, 25)) | {24 * n for n in range(1, 15)}
    return [NOW - timedelta(hours=age) for age in sorted(ages, reverse=True) if age <= hours]


class Target:
    """A target whose traffic follows the day, with noise, jobs, scaling and rolling deployments."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.peak = 10 ** self.random.uniform(1.5, 5)
        self.swing = self.random.uniform(1, 3.5)
        """The busiest hour over the quietest."""
        self.mix = {f"cmd{n}": self.random.expovariate(1) for n in range(8)}
        self.apps = {f"app{'abcdefgh'[n]}": self.random.randint(1, 200) for n in range(5)}
        self.parts = {f"{name}:": self.random.expovariate(1) for name in "abcdef"}
        self.began = NOW - timedelta(days=60)
        self.totals: Counter[str] = Counter()
        self.last = NOW - timedelta(days=15)

    def traffic(self, at: datetime) -> float:
        """Commands a second, in the mean of the minutes around."""
        day = (1 + math.cos((at.hour + at.minute / 60 - 14) / 24 * 2 * math.pi)) / 2
        level = self.peak / self.swing * (1 + (self.swing - 1) * day)
        job = 1.4 if self.random.random() < 0.1 else 1
        return level * job * self.random.lognormvariate(0, 0.12)

    def server(self, at: datetime) -> ServerShape:
        """A look."""
        rate, seconds = self.traffic(at), (at - self.last).total_seconds()
        weights = sum(self.mix.values())
        for name, weight in self.mix.items():
            noise = self.random.lognormvariate(0, 0.12)
            self.totals[name] += round(rate * seconds * weight / weights * noise)
        self.totals["in"] += round(rate * seconds * 90)
        self.totals["out"] += round(rate * seconds * 900 * self.random.lognormvariate(0, 0.2))
        self.last = at
        load = rate / self.peak
        clients = {
            name: round(count * (0.5 + load / 2) * self.random.lognormvariate(0, 0.1))
            for name, count in self.apps.items()
        }
        calls = {name: self.totals[name] for name in self.mix}
        return ServerShape(
            at=at, node="10.0.0.1:6379", run_id="r", started_at=self.began,
            flavour="redis 7.0.15", role="primary", primary="",
            parameters={"maxmemory": "100", "hz": "10"},
            counters={"input_bytes_per_second": self.totals["in"],
                      "output_bytes_per_second": self.totals["out"]},
            calls=calls,
            clients=[Population(client=name, count=n) for name, n in clients.items()],
            keys={"db0": round(1e5 * (1 + 0.3 * load))},
        )  # fmt: skip

    def keys(self, at: datetime) -> KeyShape:
        """A sample; now and then a prefix is found one level deeper, or a higher one only."""
        names = self.random.choices([*self.parts], [*self.parts.values()], k=2_000)
        groups = []
        for name, count in Counter(names).items():
            if self.random.random() < 0.1:
                half = count // 2
                groups.append(KeyGroup(prefix=f"{name}x:", type="hash", encoding="x", keys=half))
                count -= half
            groups.append(KeyGroup(prefix=name, type="hash", encoding="listpack", keys=count))
        return KeyShape(at=at, sampled=2_000, groups=groups)


def looked(seed: int, hours: float, change: Callable[[Target], None]) -> ServerChanges:
    """After so many hours of looks, and a change between the last of them and now."""
    target = Target(seed)
    shapes = [target.server(at) for at in kept_at(hours)]
    change(target)
    now = target.server(NOW)
    before, after = now, target.server(NOW + timedelta(seconds=5))
    return server_differences(shapes, now, (before, after))


def sampled(seed: int, hours: float, change: Callable[[Target], None]) -> KeyChanges:
    """The same of its keys."""
    target = Target(seed)
    shapes = [target.keys(at) for at in kept_at(hours)]
    change(target)
    return key_differences(shapes, target.keys(NOW))


def nothing(target: Target) -> None:
    """No change."""


@pytest.mark.parametrize("hours", [3, 24, 336])
def test_of_healthy_targets_nothing_is_told(hours: float) -> None:
    # Measured with 300 seeds each: 0, 0 and 0 of a server, as many of its keys.
    for seed in range(SEEDS):
        assert looked(seed, hours, nothing).told() == []
        assert sampled(seed, hours, nothing).told() == []


def busier(target: Target) -> None:
    """Also than at the busiest hour of the day."""
    target.peak *= 9


def a_new_command(target: Target) -> None:
    target.peak = max(target.peak, 2_000)
    target.mix["keys"] = sum(target.mix.values())


def a_leak(target: Target) -> None:
    target.apps["worker-*"] = 3_000


def an_app_less(target: Target) -> None:
    target.apps["appa"] = 0


@pytest.mark.parametrize("hours", [3, 336])
@pytest.mark.parametrize(
    ("change", "name"),
    [(busier, "commands_per_second"), (a_new_command, "keys"), (a_leak, "worker-*")],
)
def test_what_was_changed_is_told(
    hours: float, change: Callable[[Target], None], name: str
) -> None:
    for seed in range(5):
        found = looked(seed, hours, change)
        assert name in found.told()
        assert found.since == kept_at(hours)[0]
        assert found.until == NOW


def test_an_app_that_is_gone_is_told_with_when() -> None:
    for seed in range(5):
        target = Target(seed)
        target.apps["appa"] = 400
        *early, late = kept_at(72)
        shapes = [target.server(at) for at in early]
        an_app_less(target)
        shapes.append(target.server(late))  # it was gone before anything else happened
        (gone,) = server_differences(shapes, target.server(NOW)).clients
        assert (gone.client, gone.clients_after) == ("appa", 0)
        assert (gone.last_before, gone.first_after) == (early[-1], late)
        assert gone.clients_before >= 50


def test_our_own_looks_are_no_traffic_of_the_target() -> None:
    """The walks of an incident are counted while it is compared; those that are kept are few."""
    target = Target(3)
    kept = [target.server(at) for at in kept_at(24)]
    now = target.server(NOW)

    def walked(shape: ServerShape, calls: int) -> ServerShape:
        ours = {"scan": calls, "type": calls, "object|idletime": calls}
        return shape.model_copy(update={"calls": shape.calls | ours})

    before, after = walked(now, 5_000), walked(target.server(NOW + timedelta(seconds=5)), 50_000)
    assert server_differences(kept, walked(now, 5_000), (before, after)).told() == []
    # What applications do of it is told once it was seen in a healthy time, too.
    still = [walked(shape, 0) for shape in kept[:-1]]
    (found,) = server_differences([*still, walked(kept[-1], 900_000)], now).commands[:1]
    assert found.command in ("scan", "type", "object|idletime")


@pytest.mark.parametrize("hours", [3, 336])
def test_a_new_prefix_and_another_encoding_are_told(hours: float) -> None:
    def load(target: Target) -> None:
        target.parts["import:"] = sum(target.parts.values()) / 3

    for seed in range(5):
        (found,) = sampled(seed, hours, load).prefixes
        assert (found.prefix, found.before_share) == ("import:", 0)
        assert 0.2 < found.after_share < 0.3
    kept = [keys(at, ("listpack", 900), ("hashtable", 100)) for at in kept_at(hours)]
    (other,) = key_differences(kept, keys(NOW, ("hashtable", 950), ("listpack", 50))).encodings
    assert (other.prefix, other.before, other.after) == ("a:", "listpack", "hashtable")
    assert (other.last_before, other.first_after) == (kept[-1].at, NOW)
    mixed = key_differences(kept, keys(NOW, ("hashtable", 500), ("listpack", 500)))
    renamed = key_differences([keys(NOW, ("ziplist", 99))], keys(NOW, ("listpack", 99)))
    assert mixed.told() == renamed.told() == []


def keys(at: datetime, *groups: tuple[str, int]) -> KeyShape:
    told = [KeyGroup(prefix="a:", type="hash", encoding=name, keys=n) for name, n in groups]
    return KeyShape(at=at, sampled=sum(n for _, n in groups), groups=told)


def test_words_are_told_with_the_newest_look_that_had_another() -> None:
    target = Target(1)
    old = [target.server(at) for at in kept_at(3)]
    here = {"maxmemory": "50", "hz": "10"}
    late = target.server(NOW - timedelta(minutes=7)).model_copy(update={"parameters": here})
    now = target.server(NOW).model_copy(
        update={
            "parameters": here,
            "flavour": "redis 7.2.0",
            "role": "replica",
            "primary": "10.0.0.2:6379",
            "run_id": "other",
            "started_at": NOW - timedelta(minutes=2),
        }
    )
    found = server_differences([*old, late], now)
    assert found.told() == ["version", "role", "restarted_at", "maxmemory"]
    assert found.restarted_at == NOW - timedelta(minutes=2)
    changed = found.parameters["maxmemory"]
    assert (changed.before, changed.after) == ("100", "50")
    assert (changed.last_before, changed.first_after) == (old[-1].at, late.at)
    moved = now.model_copy(update={"node": "10.0.0.9:6379"})
    other = server_differences([*old, late], moved)
    assert other.restarted_at is None
    assert other.answers is not None
    assert other.answers.node_after == "10.0.0.9:6379"


def test_what_could_not_be_seen_is_no_change() -> None:
    """Refused CONFIG and CLIENT, counters that were reset, lists that were cut off."""
    target = Target(2)
    kept = [target.server(at) for at in kept_at(24)]
    blind = target.server(NOW).model_copy(
        update={"parameters": {}, "clients": None, "calls": {}, "counters": {}}
    )
    assert server_differences(kept, blind).told() == []
    assert server_differences([blind] * 5, target.server(NOW)).told() == []
    reset = target.server(NOW).model_copy(
        update={"calls": dict.fromkeys(target.mix, 1), "counters": {"input_bytes_per_second": 8}}
    )
    assert server_differences(kept, reset).told() == []
    few = target.server(NOW)
    assert few.clients is not None
    cut = few.model_copy(update={"clients": few.clients[1:2], "all_clients": False})
    assert server_differences(kept, cut).told() == []


def test_a_part_of_a_prefix_is_not_a_new_prefix() -> None:
    def groups(*names: tuple[str, int]) -> KeyShape:
        told = [KeyGroup(prefix=p, type="hash", encoding="x", keys=n) for p, n in names]
        return KeyShape(at=NOW, sampled=1_000, groups=told)

    kept = [groups(("user:", 600), ("job:", 400))] * 4
    assert key_differences(kept, groups(("user:1:", 600), ("job:", 400))).told() == []
    deeper = [groups(("user:1:", 300), ("user:2:", 300), ("job:", 400))] * 4
    assert key_differences(deeper, groups(("user:", 600), ("job:", 400))).told() == []
    assert share(groups(("user:", 600)), "job:") is None  # 400 keys are nobody's


@pytest.mark.parametrize(
    ("values", "span", "told"),
    [
        ([10, 10, 10, 39], 3, None),
        ([10, 10, 10, 61], 3, (10, 61)),
        ([10, 10, 10, 49], 3, None),  # less than the floor of 50
        ([100, 100, 100, 210], 3, None),  # less than a day is known
        ([100, 100, 100, 210], 36, (100, 210)),
        ([100, 190, 100, 210], 36, None),  # what it does every day
        ([100, 100, 100, 300, 110], 36, None),  # it is over
        ([100, 100, 100, 300, 250], 36, (100, 250)),
        ([400, 400, 400, 90], 3, (400, 90)),
        ([100, 100, 900], 36, None),  # two do not show what is usual
        ([None, 100, None, 100, 100, None, 500], 36, (100, 500)),
        ([], 3, None),
    ],
)
def test_levels(values: list[float | None], span: float, told: tuple[float, float] | None) -> None:
    first = NOW - timedelta(hours=span)
    looks = [Look(first + timedelta(hours=span * n / 3), v) for n, v in enumerate(values)]
    found = level(looks, 50)
    assert (found and (found.before, found.after)) == told


def test_a_moment_of_seconds_has_to_be_further_beyond_what_is_usual() -> None:
    looks = [Look(NOW + timedelta(hours=10 * n), v) for n, v in enumerate([100.0] * 4 + [300.0])]
    assert level(looks, 50) is not None
    assert level(looks, 50, short=True) is None
    assert level([*looks, Look(NOW + timedelta(hours=60), 310.0)], 50, short=True) is not None


def test_words_that_nobody_could_read_change_nothing() -> None:
    assert word([]) is None
    assert word([Look(NOW, None), Look(NOW, "a"), Look(NOW, None)]) is None
    found = word([Look(NOW, "b"), Look(NOW, None), Look(NOW, "a")])
    assert found is not None
    assert (found.before, found.after) == ("b", "a")
