"""Numbers as coordinates."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.memory_picture import MemoryPicture, Part
from api.console.drawing import MOST_POINTS, TREND_HEIGHT, TREND_WIDTH, treemaps, trend

AT = datetime(2026, 1, 31, 3, tzinfo=UTC)


def points(text: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, _, y in (one.partition(",") for one in text.split())]


def test_of_many_samples_the_highest_are_drawn_from_zero_up() -> None:
    samples = [(AT + timedelta(seconds=n), 100.0) for n in range(10_000)]
    samples[5_000] = (samples[5_000][0], 400.0)
    drawn = trend(samples, 500.0)
    assert drawn is not None
    found = points(drawn.points)
    assert len(found) <= MOST_POINTS + 1
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    assert 0 <= min(x for x, _ in found) < max(x for x, _ in found) <= TREND_WIDTH
    heights = [TREND_HEIGHT - 4 - y for _, y in found]
    assert max(heights) == pytest.approx(4 * min(heights), rel=0.02)
    assert drawn.limit_y is not None
    assert 0 < drawn.limit_y < min(y for _, y in found)
    assert (drawn.low, drawn.high, drawn.now) == (100.0, 400.0, 100.0)


def test_of_one_sample_or_of_nothing_no_curve_is_drawn() -> None:
    assert trend([(AT, 1.0)], None) is None
    assert trend([], 5.0) is None
    flat = trend([(AT, 0.0), (AT, 0.0)], None)
    assert flat is not None
    assert flat.limit_y is None


def test_each_part_has_its_area_and_a_label_only_where_it_fits() -> None:
    sizes = (600, 300, 90, 9, 1)
    parts = [Part(f"family-{n}:" * 4, size, "keys", "E1") for n, size in enumerate(sizes)]
    picture = MemoryPicture("n", AT, sum(sizes), None, None, "", None, None, parts, (), "", ())
    for map in treemaps(picture):
        for box in map.boxes:
            share = box.width * box.height / (map.width * map.height)
            assert share == pytest.approx(box.part.bytes / picture.used)
            assert len(box.label) * 7 <= box.width or box.label == ""
            assert 0 <= box.x <= box.x + box.width <= map.width + 0.01
        assert map.boxes[0].label.startswith("family-0:")
        assert map.boxes[-1].label == ""
