"""A target's metrics over days: from a real Prometheus, one that lies, our own samples."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import respx
from sqlalchemy import insert

from api import prometheus
from api.past import Past
from api.prometheus_ranges import COUNTERS, GAUGES, KEYS, ranges
from api.settings import Settings
from api.sizing_config import PrometheusEntry
from api.store.database import Database
from api.store.target_tables import SampleRow
from evals.servers import Server
from tests.answering import answering
from tests.api.real_prometheus import Sample, redis_exporter, running
from tools.growth import History
from tools.metric_history import METRICS, MetricHistory, Track, history_of
from tools.ranges import Ranges
from tools.reading import NotMeasured
from tools.summaries import summarize

MIB = 1 << 20
URL = "http://prometheus.example:9090"
ASKED = f"{URL}/api/v1/query_range"
LABELS = {"instance": "cache-1:9121"}
STEP = 60
BACK = 7 * 24 * 60
"""Steps of the past."""


def entry(url: str = URL, **more: Any) -> PrometheusEntry:
    return PrometheusEntry.model_validate({"url": url, **more})


def samples(of: Callable[[int], float], every: int = STEP) -> list[Sample]:
    """`of` the minutes before now, from a week ago until now."""
    now = int(time.time())
    return [(now - n * every, of(n * every // 60)) for n in range(BACK * STEP // every, -1, -1)]


def counted(rate: Callable[[int], float]) -> list[Sample]:
    """A counter that rises by `rate` a second."""
    total, found = 0.0, []
    for at, per_second in samples(rate, 300):
        total += per_second * 300
        found.append((at, total))
    return found


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A week: clients tripled five hours ago, traffic has its day, memory grows."""
    at = 'instance="cache-1:9121"'
    daily = [math.sin(2 * math.pi * minutes / 1_440) for minutes in range(1_440)]
    with running(
        tmp_path_factory.mktemp("past"),
        {
            f"redis_memory_used_bytes{{{at}}}": samples(lambda m: (900 - m / 288) * MIB, 300),
            f"redis_memory_max_bytes{{{at}}}": samples(lambda _: 1_024 * MIB, 300),
            f"redis_connected_clients{{{at}}}": samples(lambda m: 300 if m < 300 else 100, 300),
            f"redis_commands_processed_total{{{at}}}": counted(
                lambda m: 2_000 + 1_500 * daily[m % 1_440]
            ),
            f"redis_evicted_keys_total{{{at}}}": counted(
                lambda m: 500 if m % 1_440 < 60 * 7 else 100
            ),
            f'redis_db_keys{{{at},db="db0"}}': samples(lambda _: 5_000, 300),
            f'redis_db_keys{{{at},db="db3"}}': samples(
                lambda m: 9_000 if m < 3 * 1_440 else 3_000, 300
            ),
            f'redis_db_keys{{{at},db="db5"}}': samples(lambda _: 0, 300),
            f'redis_db_keys{{{at},db="<b>evil"}}': samples(lambda _: 7, 300),
            f'redis_blocked_clients{{{at},pod="a"}}': samples(lambda _: 1, 300),
            f'redis_blocked_clients{{{at},pod="b"}}': samples(lambda _: 2, 300),
        },
    ) as url:
        yield url


async def history(url: str, labels: dict[str, str] | None = None) -> MetricHistory:
    found = await ranges(entry(url), LABELS if labels is None else labels)
    told = history_of(found, History(because="not asked"), datetime.now(UTC))
    assert isinstance(told, MetricHistory), told
    return told


async def test_a_real_prometheus_tells_what_changed_and_when(past: str) -> None:
    told = await history(past)
    clients = told.metrics["connected_clients"]
    (step,) = clients.changes
    assert (step.before, step.after) == (100, 300)
    assert (clients.first, clients.last, clients.least, clients.most) == (100, 300, 100, 300)
    ago = datetime.now(UTC) - step.at
    assert timedelta(hours=4, minutes=50) < ago <= timedelta(hours=5, minutes=10)
    assert step.interval_seconds == 300
    (earlier,) = told.metrics["keys_db3"].changes
    assert (earlier.before, earlier.after, earlier.interval_seconds) == (3_000, 9_000, 1_800)
    assert abs((datetime.now(UTC) - earlier.at) - timedelta(days=3)) < timedelta(hours=1)
    assert "connected_clients 100 to 300 at" in summarize(told)


async def test_what_happens_every_day_has_not_changed(past: str) -> None:
    told = await history(past)
    commands, evicted = told.metrics["commands_per_second"], told.metrics["evicted_keys_per_second"]
    assert commands.most > 3_300 > 700 > commands.least
    assert evicted.most > 4 * evicted.least
    assert (commands.changes, evicted.changes) == ([], [])


async def test_a_slope_is_told_with_its_interval(past: str) -> None:
    slope = (await history(past)).metrics["used_memory_bytes"].slope
    assert slope is not None
    assert slope.per_day == pytest.approx(5 * MIB, rel=0.05)
    assert slope.low_per_day <= slope.per_day <= slope.high_per_day


async def test_databases_are_told_by_name_and_only_those_that_hold_keys(past: str) -> None:
    told = await history(past)
    assert {name for name in told.metrics if name.startswith("keys_")} == {"keys_db0", "keys_db3"}
    assert told.metrics["keys"].last == 14_000
    assert "evil" not in told.model_dump_json()


async def test_of_two_series_side_by_side_none_is_taken(past: str) -> None:
    told = await history(past)
    assert "blocked_clients" not in told.metrics
    assert told.missing is not None
    assert "2 series of redis_blocked_clients have the target's labels" in told.missing.because
    one = await history(past, {"pod": "b"})
    assert one.metrics["blocked_clients"].last == 2


async def test_without_such_series_nothing_is_measured(past: str) -> None:
    found = await ranges(entry(past), {"instance": 'x"} or up{y="\\'})
    told = history_of(found, History(), datetime.now(UTC))
    assert isinstance(told, NotMeasured)
    assert told.failure == "not_configured"
    assert "no series with the target's labels" in told.because


async def test_the_exporter_knows_every_metric_by_the_name_we_ask_for(
    tmp_path_factory: pytest.TempPathFactory, server: Server
) -> None:
    """A real Redis, its exporter, and a Prometheus that scrapes it."""
    folder = tmp_path_factory.mktemp("scraped")
    with (
        redis_exporter(folder, server.url) as exporter,
        running(folder, {}, {"redis": exporter}) as url,
    ):
        async with asyncio.timeout(20):
            while not (found := await ranges(entry(url), {"instance": exporter})).series:
                await asyncio.sleep(0.5)
        told = history_of(found, History(), datetime.now(UTC))
    names = names_of(found)
    # A server without replicas and primary has no lag and no link; keys it has none.
    assert set(METRICS) - names <= {"replica_lag_seconds", "primary_link_up"} | per_second_names()
    assert isinstance(told, MetricHistory)
    assert told.source == "Prometheus"


def names_of(found: Ranges) -> set[str]:
    return {one.metric for one in found.series}


def per_second_names() -> set[str]:
    """Rates need two samples on the grid, and there is one."""
    return set(COUNTERS.values())


def reply(*series: dict[str, Any]) -> httpx2.Response:
    return httpx2.Response(200, json={"status": "success", "data": {"result": list(series)}})


def one(name: str, *values: tuple[Any, Any], **labels: Any) -> dict[str, Any]:
    return {"metric": {"__name__": name, **labels}, "values": [list(value) for value in values]}


NOW = datetime(2026, 11, 1, tzinfo=UTC)
LAST = NOW.timestamp()


async def answered(response: Any, **more: Any) -> Ranges:
    with respx.mock() as mock:
        route = mock.post(ASKED)
        if isinstance(response, Exception):
            route.side_effect = response
        else:
            route.return_value = response
        return await ranges(entry(token="t0ken-s3cr3t", **more), LABELS, NOW)


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (httpx2.Response(302, headers={"Location": "http://evil.example"}), "answered 302"),
        (httpx2.Response(401, text="t0ken-s3cr3t"), "answered 401"),
        (httpx2.Response(503), "answered 503"),
        (httpx2.Response(200, text="<html>"), "no range of samples"),
        (httpx2.Response(200, content=b"[" * 200_000), "no range of samples"),
        (httpx2.Response(200, json={"data": {"result": {"a": 1}}}), "no range of samples"),
        (reply({"metric": {"__name__": ["x"]}, "values": []}), "no range of samples"),
        (reply({"metric": [], "values": []}), "no range of samples"),
        (reply(one("redis_connected_clients", ("x", "y"))), "no range of samples"),
        (reply(one("redis_connected_clients", (1e300, "1"))), "no series"),
        (reply(one("redis_connected_clients", (LAST, {}))), "no range of samples"),
        (reply(*[one("x", (LAST, "1"))] * 401), "more than 400 series"),
        (httpx2.Response(200, content=b"[" + b"1," * 3_000_000), "more than 4,194,304 bytes"),
        (httpx2.ConnectError("http://u:t0ken-s3cr3t@h"), "did not answer (ConnectError)"),
        (httpx2.ReadTimeout("slow"), "did not answer (ReadTimeout)"),
    ],
)
async def test_whatever_else_it_answers_is_a_reason(response: Any, said: str) -> None:
    found = await answered(response)
    told = history_of(found, History(), NOW)
    assert isinstance(told, NotMeasured)
    assert said in told.because or said in found.because or said == "no series"
    assert "s3cr3t" not in found.model_dump_json() + told.model_dump_json()


async def test_one_that_says_nothing_is_waited_for_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes the connection, and a byte comes now and then: no read times out."""
    monkeypatch.setattr(prometheus, "SECONDS", 0.5)

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with answering(trickle) as port:
        began = time.monotonic()
        found = await ranges(entry(f"http://127.0.0.1:{port}", token="t0ken-s3cr3t"), LABELS)
        assert time.monotonic() - began < 3
    assert found.because == "Prometheus did not answer (TimeoutError)"


async def test_values_that_are_no_numbers_are_gaps() -> None:
    values = [(LAST - 900, "NaN"), (LAST - 600, "+Inf"), (LAST - 300, "-Inf"), (LAST, "7")]
    told = history_of(
        await answered(reply(one("redis_connected_clients", *values))), History(), NOW
    )
    assert isinstance(told, MetricHistory)
    assert told.metrics == {"connected_clients": Track(first=7, last=7, least=7, most=7, samples=1)}


async def test_series_that_follow_each_other_are_one_and_a_restart_is_no_fall() -> None:
    counter = "redis_commands_processed_total"
    before = [(LAST - 300 * n, str(30_000 - 3_000 * n)) for n in range(9, 4, -1)]
    after = [(LAST - 300 * n, str(3_000 * (5 - n))) for n in range(4, -1, -1)]
    found = await answered(reply(one(counter, *before, pod="a"), one(counter, *after, pod="b")))
    told = history_of(found, History(), NOW)
    assert isinstance(told, MetricHistory)
    rate = told.metrics["commands_per_second"]
    assert (rate.most, rate.samples) == (10, 9)
    assert rate.least >= 0


async def test_the_worst_replica_counts() -> None:
    lag = "redis_connected_slave_lag_seconds"
    found = await answered(
        reply(one(lag, (LAST, "2"), slave_ip="a"), one(lag, (LAST, "40"), slave_ip="b"))
    )
    assert {(s.metric, s.values[-1]) for s in found.series} == {("replica_lag_seconds", 40)}


async def test_two_bounded_questions_are_asked_with_the_token() -> None:
    with respx.mock() as mock:
        route = mock.post(ASKED)
        route.return_value = reply()  # type: ignore[assignment]  # an alias
        await ranges(entry(token="t0ken", days=2, metric="my_memory"), LABELS, NOW)
        asked = [httpx2.QueryParams(call.request.content.decode()) for call in route.calls]
        assert all(call.request.headers["Authorization"] == "Bearer t0ken" for call in route.calls)
    assert sorted(int(form["step"]) for form in asked) == [300, 1_800]
    assert all(float(form["end"]) - float(form["start"]) <= 2 * 86_400 for form in asked)
    named = {"my_memory", KEYS, *GAUGES, *COUNTERS}
    assert asked[0]["query"] == (
        f'{{__name__=~"{"|".join(sorted(named))}",instance="cache-1:9121"}}'
    )


async def test_without_prometheus_our_own_samples_are_told(
    database: Database, settings: Callable[..., Settings]
) -> None:
    target = {"name": "cache-1", "url": "redis://127.0.0.1:1", "match": {"instance": "c:1"}}
    now = datetime.now(UTC)
    rows = [
        {"target": "cache-1", "at": now - timedelta(minutes=5 * n), "limit_bytes": 900 * MIB,
         "used_bytes": (100 if n > 60 else 400) * MIB, "rss_bytes": 500 * MIB, "keys": 10_000}
        for n in range(3 * 288)
    ]  # fmt: skip
    past = Past(settings(targets=[target]), database, "cache-1")
    none = history_of(await past.ranges(), History(), now)
    assert isinstance(none, NotMeasured)
    assert "no samples are kept for this target yet" in none.because
    async with database.writing() as session:
        await session.execute(insert(SampleRow), rows)
    known = await past.known("metric_history")
    told = history_of(known["ranges"], known["history"], now)
    assert isinstance(told, MetricHistory)
    assert told.source == "watch"
    assert set(told.metrics) == {"used_memory_bytes", "resident_bytes", "limit_bytes", "keys"}
    (step,) = told.metrics["used_memory_bytes"].changes
    assert (round(step.before / MIB), round(step.after / MIB)) == (100, 400)
    assert abs((now - step.at) - timedelta(hours=5)) < timedelta(minutes=25)
    assert told.missing is not None
    assert "watch has none of: fragmentation_ratio, connected_clients" in told.missing.because

    asked = Past(settings(targets=[target], prometheus={"url": URL}), database, "cache-1")
    with respx.mock() as mock:
        mock.post(ASKED).return_value = httpx2.Response(500)  # type: ignore[assignment]
        found = await asked.ranges()
    assert (found.source, found.because) == ("watch", "Prometheus answered 500")
