"""Range queries to Prometheus, each bounded; and the trend of a target's memory by one of them."""

import asyncio
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx2

from api.sizing_config import PrometheusEntry
from tools.growth import DAY, History, MemorySample
from tools.ranges import sample

Values = list[float | None]

SOURCE = "Prometheus"
SECONDS = 10.0
MOST_BYTES = 4 * 1024**2
STEP_SECONDS = 1_800
"""Two points an hour: 90 days are 4,320, of 11,000 that Prometheus gives at most."""
ODD = "Prometheus answered something that is no range of samples"
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}


class Unanswered(Exception):
    """Why there are no samples."""


async def history(
    entry: PrometheusEntry, labels: Mapping[str, str], now: datetime | None = None
) -> History:
    """Used memory of the one series with these labels; without samples, `because` says why."""
    grid = Grid.ending(now or datetime.now(UTC), entry.days * DAY, STEP_SECONDS)
    try:
        found = _samples(grid, await query(entry, selector(entry.metric, labels), grid))
        return History(source=SOURCE, samples=found, because="")
    except Unanswered as none:
        return History(source=SOURCE, because=str(none))


@dataclass(frozen=True)
class Grid:
    """The times of a query's values."""

    start: float
    step: int
    places: int

    @classmethod
    def ending(cls, now: datetime, seconds: int, step: int) -> "Grid":
        """So many seconds until now."""
        places = seconds // step
        return cls(now.timestamp() - (places - 1) * step, step, places)

    def at(self, place: int) -> float:
        """In seconds of the epoch."""
        return self.start + place * self.step

    def values(self, samples: Sequence[Any]) -> Values:
        """Samples of a reply by their places, however many, in whatever order, of whenever they
        are; what is no sample is a gap. Raises Unanswered.
        """  # noqa: D205
        found: Values = [None] * self.places
        try:
            for at, said in samples:
                place, value = round((at - self.start) / self.step), sample(said)
                if 0 <= place < self.places and value is not None:
                    found[place] = value
        except (ValueError, TypeError, OverflowError):
            raise Unanswered(ODD) from None
        return found


async def query(entry: PrometheusEntry, promql: str, grid: Grid) -> list[Any]:
    """The series of a range query, as Prometheus has them. Raises Unanswered."""
    try:
        async with asyncio.timeout(SECONDS):
            content = await _ask(entry, promql, grid)
        found = json.loads(content)["data"]["result"]
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as failure:
        raise Unanswered(f"Prometheus did not answer ({type(failure).__name__})") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unanswered(ODD) from None
    if not isinstance(found, list):
        raise Unanswered(ODD)
    return found


def selector(metric: str, labels: Mapping[str, str]) -> str:
    """PromQL for the series with exactly these labels. Raises Unanswered."""
    return f"{metric}{{{_matchers(labels)}}}"


def selector_of(metrics: Iterable[str], labels: Mapping[str, str]) -> str:
    """The same for several metrics, in one question. Raises Unanswered."""
    return f'{{__name__=~"{"|".join(sorted(metrics))}",{_matchers(labels)}}}'


def _matchers(labels: Mapping[str, str]) -> str:
    if not labels:
        raise Unanswered("the target has no labels to ask Prometheus for (`series` or `match`)")
    if bad := [name for name in labels if not _LABEL.fullmatch(name)]:
        raise Unanswered(f"Prometheus knows no label like {bad[0]!r}")
    return ",".join(
        f'{name}="{"".join(_ESCAPES.get(c, c) for c in value)}"' for name, value in labels.items()
    )


async def _ask(entry: PrometheusEntry, promql: str, grid: Grid) -> bytearray:
    form = {
        "query": promql,
        "start": str(grid.start),
        "end": str(grid.at(grid.places - 1)),
        "step": str(grid.step),
        "timeout": f"{SECONDS:.0f}s",
    }
    headers = {"Authorization": f"Bearer {entry.token.get_secret_value()}"} if entry.token else {}
    url = entry.url.get_secret_value().rstrip("/") + "/api/v1/query_range"
    async with (
        httpx2.AsyncClient(timeout=SECONDS, trust_env=False, follow_redirects=False) as client,
        client.stream("POST", url, data=form, headers=headers) as response,
    ):
        if response.status_code != 200:
            raise Unanswered(f"Prometheus answered {response.status_code}")
        content = bytearray()  # a piece may be a byte
        async for piece in response.aiter_bytes():
            content += piece
            if len(content) > MOST_BYTES:
                raise Unanswered(f"Prometheus answered more than {MOST_BYTES:,} bytes")
    return content


def _samples(grid: Grid, series: list[Any]) -> list[MemorySample]:
    if not series:
        raise Unanswered("Prometheus has no series with the target's labels")
    if len(series) > 1:
        raise Unanswered(f"{len(series)} series have the target's labels: name more of them")
    try:
        values = grid.values(series[0]["values"])
    except (KeyError, TypeError):
        raise Unanswered(ODD) from None
    found = [
        MemorySample(at=datetime.fromtimestamp(grid.at(place), UTC), used_bytes=round(used))
        for place, used in enumerate(values)
        if used is not None
    ]
    if not found:
        raise Unanswered("the series with the target's labels has no samples of that time")
    return found
