"""The trend of a target's memory from Prometheus: one bounded range query."""

import asyncio
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from api.sizing_config import PrometheusEntry
from tools.growth import History, MemorySample

SOURCE = "Prometheus"
SECONDS = 10.0
MOST_BYTES = 4 * 1024**2
STEP_SECONDS = 1_800
"""Two points an hour: 90 days are 4,320, of 11,000 that Prometheus gives at most."""
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}


async def history(
    entry: PrometheusEntry, labels: Mapping[str, str], now: datetime | None = None
) -> History:
    """Used memory of the one series with these labels; without samples, `because` says why."""
    try:
        query = selector(entry.metric, labels)
        async with asyncio.timeout(SECONDS):
            content = await _ask(entry, query, now or datetime.now(UTC))
        return History(source=SOURCE, samples=_samples(json.loads(content)), because="")
    except _NoSamples as none:
        because = str(none)
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as failure:
        because = f"Prometheus did not answer ({type(failure).__name__})"
    except (ValueError, KeyError, TypeError, IndexError, OverflowError):
        because = "Prometheus answered something that is no range of samples"
    return History(source=SOURCE, because=because)


class _NoSamples(Exception):
    """Why there are none."""


def selector(metric: str, labels: Mapping[str, str]) -> str:
    """PromQL for the series with exactly these labels. Raises _NoSamples."""
    if not labels:
        raise _NoSamples("the target has no labels to ask Prometheus for (`series` or `match`)")
    if bad := [name for name in labels if not _LABEL.fullmatch(name)]:
        raise _NoSamples(f"Prometheus knows no label like {bad[0]!r}")
    matchers = ",".join(
        f'{name}="{"".join(_ESCAPES.get(c, c) for c in value)}"' for name, value in labels.items()
    )
    return f"{metric}{{{matchers}}}"


async def _ask(entry: PrometheusEntry, query: str, now: datetime) -> bytes:
    form = {
        "query": query,
        "start": str((now - timedelta(days=entry.days)).timestamp()),
        "end": str(now.timestamp()),
        "step": str(STEP_SECONDS),
        "timeout": f"{SECONDS:.0f}s",
    }
    headers = {"Authorization": f"Bearer {entry.token.get_secret_value()}"} if entry.token else {}
    url = entry.url.get_secret_value().rstrip("/") + "/api/v1/query_range"
    async with (
        httpx2.AsyncClient(timeout=SECONDS, trust_env=False, follow_redirects=False) as client,
        client.stream("POST", url, data=form, headers=headers) as response,
    ):
        if response.status_code != 200:
            raise _NoSamples(f"Prometheus answered {response.status_code}")
        content = b""
        async for piece in response.aiter_bytes():
            content += piece
            if len(content) > MOST_BYTES:
                raise _NoSamples(f"Prometheus answered more than {MOST_BYTES:,} bytes")
    return content


def _samples(answer: Any) -> list[MemorySample]:
    series = answer["data"]["result"]
    if not series:
        raise _NoSamples("Prometheus has no series with the target's labels")
    if len(series) > 1:
        raise _NoSamples(f"{len(series)} series have the target's labels: name more of them")
    found = []
    for at, value in series[0]["values"]:
        used = float(value)
        if math.isfinite(used) and used >= 0:
            found.append(MemorySample(at=datetime.fromtimestamp(at, UTC), used_bytes=round(used)))
    return found
