"""Numbers as pictures: coordinates that templates put into SVG. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import squarify

from agent.memory_picture import MemoryPicture, Part

SHAPES = {"wide": (960.0, 380.0), "tall": (340.0, 340.0)}
"""Of the treemap, in its own units: for a desk and for a phone."""
LETTER = 7.2
"""Width of a letter, about, in the same units; a label that does not fit is not written."""
LINE = 17.0
TREND_WIDTH, TREND_HEIGHT = 600.0, 120.0
_PAD = 4.0
MOST_POINTS = 160


@dataclass(frozen=True)
class Box:
    """One part of the memory, as a rectangle."""

    part: Part
    share: float
    """Of the used memory."""
    x: float
    y: float
    width: float
    height: float
    label: str
    """As much of the name as there is room for; empty: none."""
    room: int
    """For so many letters in a second line."""


@dataclass(frozen=True)
class Treemap:
    """Rectangles whose areas are the bytes."""

    shape: str
    width: float
    height: float
    boxes: Sequence[Box]


def treemaps(picture: MemoryPicture) -> list[Treemap]:
    """The same parts in each shape (Bruls, Huizing, van Wijk 2000: squarified)."""
    return [_treemap(picture, shape, *size) for shape, size in SHAPES.items()]


def _treemap(picture: MemoryPicture, shape: str, width: float, height: float) -> Treemap:
    parts = [part for part in picture.parts if part.bytes > 0]
    areas = squarify.normalize_sizes([part.bytes for part in parts], width, height)
    placed = squarify.squarify(areas, 0.0, 0.0, width, height) if parts else []
    boxes = [
        Box(
            part,
            part.bytes / picture.used,
            rect["x"],
            rect["y"],
            rect["dx"],
            rect["dy"],
            _label(part.name, rect["dx"], rect["dy"]),
            int((rect["dx"] - 12) / LETTER) if rect["dy"] > 2.6 * LINE else 0,
        )
        for part, rect in zip(parts, placed, strict=True)
    ]
    return Treemap(shape, width, height, boxes)


def _label(name: str, width: float, height: float) -> str:
    room = int((width - 12) / LETTER)
    if height < LINE + 6 or room < 4:
        return ""
    return name if len(name) <= room else name[: room - 1] + "…"


@dataclass(frozen=True)
class Trend:
    """A curve over time from zero up, and the limit where there is one."""

    points: str
    first: datetime
    last: datetime
    low: float
    high: float
    now: float
    limit_y: float | None
    width: float = TREND_WIDTH
    height: float = TREND_HEIGHT


def trend(samples: Sequence[tuple[datetime, float]], limit: float | None) -> Trend | None:
    """Of at least two samples, oldest first; the largest of those that share a place is drawn."""
    if len(samples) < 2:
        return None
    first, last = samples[0][0], samples[-1][0]
    seconds = (last - first).total_seconds() or 1.0
    values = [value for _, value in samples]
    top = max(*values, limit or 0.0) * 1.05 or 1.0

    def y(value: float) -> float:
        return TREND_HEIGHT - _PAD - value / top * (TREND_HEIGHT - 2 * _PAD)

    largest: dict[int, float] = {}
    for at, value in samples:
        place = round((at - first).total_seconds() / seconds * MOST_POINTS)
        largest[place] = max(value, largest.get(place, value))
    step = (TREND_WIDTH - 2 * _PAD) / MOST_POINTS
    points = " ".join(f"{_PAD + place * step:.1f},{y(v):.1f}" for place, v in largest.items())
    limit_y = y(limit) if limit else None
    return Trend(points, first, last, min(values), max(values), values[-1], limit_y)
