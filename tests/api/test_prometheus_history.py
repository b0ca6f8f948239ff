"""Asking Prometheus for a target's memory: a real one, and one that answers nonsense."""

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
from api.settings import Settings
from api.sizing_config import PrometheusEntry
from api.store.database import Database
from api.store.target_tables import SampleRow
from tests.api.real_prometheus import running
from tools.growth import Trend, fit

MIB = 1 << 20
URL = "http://prometheus.example:9090/"
ASKED = "http://prometheus.example:9090/api/v1/query_range"
LABELS = {"instance": 'cache-1:9121"} or up{x="\\'}


def entry(url: str = URL, **more: Any) -> PrometheusEntry:
    return PrometheusEntry.model_validate({"url": url, **more})


def series(*values: tuple[float, str], **labels: str) -> dict[str, Any]:
    return {"metric": labels, "values": [list(value) for value in values]}


def answer(*found: dict[str, Any]) -> httpx2.Response:
    return httpx2.Response(200, json={"status": "success", "data": {"result": list(found)}})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus that knows ten days of two servers."""
    now = int(time.time())
    past = {
        f'redis_memory_used_bytes{{instance="{instance}"}}': [
            (now - back * 1_800, (900 - per_hour * back // 2) * MIB)
            for back in range(10 * 48, -1, -1)
        ]
        for instance, per_hour in (("cache-1:9121", 2), ("cache-2:9121", 0))
    }
    with running(tmp_path_factory.mktemp("prometheus"), past) as url:
        yield url


async def test_a_real_prometheus_tells_the_trend_of_the_right_server(server: str) -> None:
    found = await prometheus.history(entry(server), {"instance": "cache-1:9121"})
    assert found.because == ""
    assert len(found.samples) > 450
    trend = fit(found, datetime.now(UTC))
    assert isinstance(trend, Trend)
    assert trend.source == "Prometheus"
    # promtool makes blocks of whole two hours: the newest samples may be in none.
    assert trend.bytes_per_day == pytest.approx(48 * MIB, rel=0.05)
    still = fit(
        await prometheus.history(entry(server), {"instance": "cache-2:9121"}), datetime.now(UTC)
    )
    assert isinstance(still, Trend)
    assert not still.grows


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"job": "x"}, "no series with the target's labels"),
        (LABELS, "no series with the target's labels"),
        ({}, "no labels to ask Prometheus for"),
        ({'x="y"} or up{': "z"}, "Prometheus knows no label like"),
    ],
)
async def test_what_a_real_prometheus_cannot_tell(
    server: str, labels: dict[str, str], said: str
) -> None:
    found = await prometheus.history(entry(server), labels)
    assert found.samples == []
    assert said in found.because


def answering(route: respx.Route, response: Any) -> None:
    """That is its answer, or how it fails."""
    if isinstance(response, Exception):
        route.side_effect = response
    else:
        route.return_value = response


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (answer(series((1.0, "1"), a="x"), series((1.0, "1"), a="y")), "2 series"),
        (httpx2.Response(302, headers={"Location": "http://evil.example"}), "answered 302"),
        (httpx2.Response(401, text="s3cr3t"), "answered 401"),
        (httpx2.Response(200, text="<html>"), "no range of samples"),
        (httpx2.Response(200, json={"data": {"result": [{"values": [["x", "y"]]}]}}), "no range"),
        (
            httpx2.Response(200, json={"data": {"result": [{"values": [[1e300, "1"]]}]}}),
            "no samples",
        ),
        (httpx2.Response(200, json=[]), "no range of samples"),
        (httpx2.Response(200, content=b"[" + b"1," * 3_000_000), "more than 4,194,304 bytes"),
        (httpx2.ConnectError("no route"), "did not answer (ConnectError)"),
    ],
)
async def test_any_other_answer_is_a_reason(response: Any, said: str) -> None:
    with respx.mock() as mock:
        answering(mock.post(ASKED), response)
        found = await prometheus.history(entry(), LABELS)
    assert found.samples == []
    assert said in found.because
    assert "s3cr3t" not in found.because


async def test_values_that_are_no_sizes_are_left_out_and_the_question_is_bounded() -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    ago = [now.timestamp() - 1_800 * steps for steps in range(4)]
    values = [*zip(ago, ["NaN", "+Inf", "-5", "7.4"], strict=True)]
    with respx.mock() as mock:
        route = mock.post(ASKED)
        route.return_value = answer(series(*values))  # type: ignore[assignment]  # an alias
        found = await prometheus.history(entry(token="t0ken", days=7), LABELS, now)
        request = route.calls.last.request
    assert [sample.used_bytes for sample in found.samples] == [7]
    assert request.headers["Authorization"] == "Bearer t0ken"
    asked = httpx2.QueryParams(request.content.decode())
    assert float(asked["end"]) - float(asked["start"]) == 7 * 86_400 - 1_800
    assert asked["query"] == (
        'redis_memory_used_bytes{instance="cache-1:9121\\"} or up{x=\\"\\\\"}'
    )
    assert "t0ken" not in repr(entry(token="t0ken"))


async def test_whoever_goes_back_further_is_asked(
    database: Database, settings: Callable[..., Settings]
) -> None:
    now = datetime.now(UTC)
    target = {"name": "cache-1", "url": "redis://127.0.0.1:1", "match": {"instance": "c:1"}}
    told = settings(targets=[target], prometheus={"url": URL})
    past = Past(told, database, "cache-1")

    async def source(*points: tuple[float, str]) -> str:
        with respx.mock() as mock:
            route = mock.post(ASKED)
            route.return_value = answer(series(*points))  # type: ignore[assignment]  # an alias
            return (await past.history()).source

    old, new = (now - timedelta(days=3)).timestamp(), now.timestamp()
    assert await source((old, "1"), (new, "2")) == "Prometheus"
    rows = [{"target": "cache-1", "at": now - timedelta(days=n), "used_bytes": 1} for n in (0, 5)]
    async with database.writing() as session:
        await session.execute(insert(SampleRow), rows)
    assert await source((old, "1"), (new, "2")) == "watch"
