"""What the installation knew goes with a recording, and a replay is told the same."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.tools.test_growth import NOW, history
from tools import recording_file
from tools.growth import History, Trend, fit, hourly
from tools.host import HostFacts
from tools.known import LARGEST, keeping, known_in
from tools.ranges import Range, Ranges
from tools.reads import READS
from tools.recording import RecordedConnection
from tools.recording_file import Header, Recording
from tools.recording_names import hashed
from tools.recording_privacy import Pseudonyms

AT = datetime(2026, 11, 1, tzinfo=UTC)
CLIENTS = Ranges(
    source="Prometheus",
    series=[
        Range(
            metric="connected_clients",
            start=(AT - timedelta(minutes=5 * 39)).timestamp(),
            step=300,
            values=[10.0] * 20 + [90.0] * 20,
        )
    ],
)
MEMORY = history([n * (1 << 20) for n in range(240)])


def empty() -> Recording:
    return Recording(Header(captured_at=AT.isoformat(), flavour="redis 7.0.15", node="a:1"))


async def found(tool: str, node: str = "") -> dict[str, Any]:
    known = {"ranges": CLIENTS, "history": MEMORY, "catalogue": "/etc/sizes.yaml"}
    return {name: value for name, value in known.items() if name in READS[tool].args.model_fields}


async def test_a_replay_sees_what_was_seen(tmp_path: Path) -> None:
    recording = empty()
    told = await keeping(recording, found)("metric_history", "")
    live = await READS["metric_history"].call(RecordedConnection(recording), told)
    path = tmp_path / "case.jsonl.gz"
    recording_file.write(path, recording)
    again = RecordedConnection(path)
    known = await known_in(again.recording)("metric_history", "")
    assert await READS["metric_history"].call(again, known) == live
    assert live.model_dump()["metrics"]["connected_clients"]["changes"]
    recording_file.write(tmp_path / "again.jsonl.gz", again.recording)
    assert (tmp_path / "again.jsonl.gz").read_bytes() == path.read_bytes()


async def test_each_tool_is_told_its_own_and_paths_stay_here() -> None:
    recording = empty()
    await keeping(recording, found)("instance_resize", "")
    assert set(recording.known) == {"history"}
    assert await known_in(recording)("memory_info", "") == {}
    assert set(await known_in(recording)("metric_history", "")) == {"history"}


async def test_it_survives_fewer_keys_and_other_names() -> None:
    recording = empty()
    await keeping(recording, found)("metric_history", "")
    for key in (b"a", b"b"):
        recording.table.keys[key] = {"TYPE": b"string"}
    assert recording_file.shortened(recording, 0).known == recording.known
    assert hashed(recording, Pseudonyms()).known == recording.known


async def test_what_is_too_large_is_not_kept() -> None:
    chance = random.Random(7)
    noise = [chance.random() for _ in range(900)]
    large = Ranges(
        series=[Range(metric=f"m{n}", start=0, step=1, values=[*noise]) for n in range(9)]
        + [Range(metric="x", start=0, step=1, values=[v * n for v in noise]) for n in range(9)]
    )

    async def much(tool: str, node: str) -> dict[str, Any]:
        return {"ranges": large, "facts": HostFacts()}

    recording = empty()
    assert (await keeping(recording, much)("host", ""))["ranges"] is large
    assert set(recording.known) == {"facts"}
    assert LARGEST < 100_000


async def test_what_somebody_wrote_into_a_recording_is_checked() -> None:
    recording = empty()
    recording.known = {"facts": {"host": {"series": "<b>"}}}
    with pytest.raises(ValidationError):
        await READS["host"].call(
            RecordedConnection(recording), await known_in(recording)("host", "")
        )


def test_a_recording_without_it_has_no_such_line(tmp_path: Path) -> None:
    recording_file.write(tmp_path / "old.jsonl", empty())
    assert "known" not in (tmp_path / "old.jsonl").read_text()


@pytest.mark.parametrize("seed", range(10))
def test_one_sample_an_hour_says_the_same_of_growth(seed: int) -> None:
    chance = random.Random(seed)
    minutes = chance.choice((10, 30))
    levels = [chance.randrange(1 << 20, 1 << 28) for _ in range(chance.randrange(700, 1_500))]
    whole = history(levels, minutes)
    fewer = hourly(whole)
    one, other = fit(whole, NOW), fit(fewer, NOW)
    assert len(fewer.samples) <= len(levels) * minutes // 60 + 1
    if isinstance(one, Trend) and isinstance(other, Trend):
        assert other.bytes_per_day == pytest.approx(one.bytes_per_day, abs=2)
        assert other.low_bytes_per_day == pytest.approx(one.low_bytes_per_day, abs=2)
        assert (other.breaks, other.season) == (one.breaks, one.season)
    else:
        assert type(one) is type(other)


def test_no_samples_stay_none() -> None:
    assert hourly(History(because="why")).because == "why"


async def test_whoever_asks_second_is_told_what_the_first_was() -> None:
    """Prometheus has gone on meanwhile; the evidence of one incident is of one state."""
    asked = 0

    async def growing(tool: str, node: str) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return {"history": history([n * (asked << 20) for n in range(240)])}

    recording = empty()
    known = keeping(recording, growing)
    first, second = await known("instance_resize", ""), await known("metric_history", "")
    assert asked == 2
    assert second == first
    assert recording.known["history"] == first["history"].model_dump(mode="json")
