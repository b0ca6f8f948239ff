"""Memory as a bar and as a curve of blocks; of `#` and `.` where the output has no others. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from agent.effects import BLOCKS, Effect, Measured
from agent.facts import print_bytes, print_seconds, print_share
from agent.memory_picture import MemoryPicture
from agent.signals.memory import PRESSURE_ALERT, PRESSURE_HIGH
from tools.reading import number, printable

MOST_CELLS = 60
MOST_TREND_CELLS = 40
MOST_PARTS = 8
MOST_PART_CELLS = 24
MOST_CHANGES = 8
"""Metrics of an action: what got worse comes first, then what changed most."""
_PLAIN = str.maketrans("▁▂▃▄▅▆▇█·→", "_.:-=+*#?>")
"""Blocks of a curve, where there are none: ever more ink."""


@dataclass(frozen=True)
class Level:
    """A server's memory and its limit, in bytes; None: not measured, and `because` says why.

    Source: a `memory_info` reading.
    """

    counted: float | None
    limit: float | None
    share: float | None
    used: float | None
    resident: float | None
    peak: float | None
    limited_by: str
    because: str = ""


def level(reading: Mapping[str, Any]) -> Level:
    """Of a reading of memory_info, or of the NotMeasured in its place."""
    names = ("counted_memory", "limit", "pressure", "used_memory")
    missing = (part for part in (reading, *map(reading.get, names)) if isinstance(part, Mapping))
    reasons = [str(part["because"]) for part in missing if "because" in part]
    return Level(
        counted=number(reading.get("counted_memory")),
        limit=number(reading.get("limit")),
        share=number(reading.get("pressure")),
        used=number(reading.get("used_memory")),
        resident=number(reading.get("used_memory_rss")),
        peak=number(reading.get("used_memory_peak")),
        limited_by=str(reading.get("limit_source", "none known")),
        because=reasons[0] if reasons else "",
    )


def lines(shown: Level, columns: int, *, ascii_only: bool = False) -> Iterator[Text]:
    """The bar with its two thresholds, what it means, and what counts beside it."""
    if shown.share is not None and shown.limit is not None and shown.counted is not None:
        cells = max(10, min(MOST_CELLS, columns - 11))
        yield bar(shown.share, cells, ascii_only=ascii_only)
        yield Text(_scale(cells, ascii_only=ascii_only), style="dim")
        what = "limit" if shown.limited_by == "none known" else shown.limited_by
        yield Text(f"{print_bytes(shown.counted)} of {print_bytes(shown.limit)} ({what})")
    else:
        because = f": {shown.because}" if shown.because else ""
        yield Text(f"share of the limit not measured{because}", style="yellow")
    also = {"used": shown.used, "resident": shown.resident, "peak": shown.peak}
    known = [f"{name} {print_bytes(value)}" for name, value in also.items() if value is not None]
    if known:
        yield Text(", ".join(known), style="dim")


def parts(
    picture: MemoryPicture, columns: int, *, ascii_only: bool = False
) -> Iterator[RenderableType]:
    """Where the bytes are: each part's size, its share as a bar, and last its name, that of a key.

    They add up to used_memory; the small ones are told together.
    """
    shown, rest = picture.parts[:MOST_PARTS], picture.parts[MOST_PARTS:]
    rows = [(part.bytes, part.name, part.kind) for part in shown]
    if rest:
        rows.append((sum(part.bytes for part in rest), f"{len(rest)} smaller parts", "overhead"))
    cells = max(0, min(MOST_PART_CELLS, columns - 48))
    grid = Table.grid(padding=(0, 2))
    for justify in ("right", "right", "left"):
        grid.add_column(no_wrap=True, justify=justify)
    grid.add_column(overflow="fold")
    for size, name, kind in rows:
        share = size / picture.used if picture.used else 0.0
        drawn = ("#" if ascii_only else "█") * max(1, round(share * cells)) if cells else ""
        style = "cyan" if kind == "keys" else "dim"
        grid.add_row(
            print_bytes(size),
            print_share(share),
            Text(drawn, style=style),
            Text(printable(name), style="" if kind == "keys" else "dim"),
        )
    yield grid
    yield Text(f"{print_bytes(picture.used)} used; {picture.basis}", style="dim")


def bar(share: float, cells: int, *, ascii_only: bool = False) -> Text:
    """`███████████▌    |    |   ] 73 %`, in the colour of how near the limit is."""
    style = "green" if share < PRESSURE_ALERT else "yellow" if share < PRESSURE_HIGH else "red"
    full, part = divmod(round(max(0.0, min(share, 1.0)) * cells * 8), 8)
    filled = "#" * full if ascii_only else "█" * full + "▏▎▍▌▋▊▉"[part - 1 : part]
    empty = list(" " * (cells - len(filled)))
    for mark in _marks(cells):
        if mark >= len(filled):
            empty[mark - len(filled)] = "|"
    text = Text("[", style="dim")
    text.append(filled, style=f"not dim {style}")
    text.append("".join(empty))
    text.append("]")
    text.append(f" {print_share(share)}", style=f"not dim bold {style}")
    return text


def _marks(cells: int) -> tuple[int, int]:
    return round(PRESSURE_ALERT * cells), round(PRESSURE_HIGH * cells)


def _scale(cells: int, *, ascii_only: bool) -> str:
    """Below the bar: where the thresholds are, also where the bar covers them."""
    mark = "^" if ascii_only else "▲"
    first, second = (1 + at for at in _marks(cells))
    low, high = f"{mark}{PRESSURE_ALERT:.0%}", f"{mark}{PRESSURE_HIGH:.0%}"
    gap = second - first - len(low)
    return " " * first + low + (" " * gap + high if gap > 0 else "")


def changes(effect: Effect, *, ascii_only: bool = False) -> Iterator[Text]:
    """What an action changed: each metric before and after, its curve with both ends."""
    arrow = "->" if ascii_only else "→"
    shown = effect.measured[:MOST_CHANGES]
    for one in shown:
        text = Text(f"{one.title}: {one.before} {arrow} {one.after}")
        if one.verdict:
            text.append(" worse", style="bold red")
        yield text
        if one.because:
            yield Text(f"  {one.because}", style="red")
        if one.curve is not None:
            yield Text(f"  {curve(one, ascii_only=ascii_only)}", style="dim")
    if left := len(effect.measured) - len(shown) + effect.more:
        yield Text(f"and {left} more that changed less or not at all", style="dim")
    for label, names, style in (
        ("cleared", effect.cleared, "green"),
        ("still there", effect.still, "red"),
        ("not measured again", effect.not_measured, "yellow"),
    ):
        for name in names:
            yield Text(f"{label}: {name}", style=style)


def curve(one: Measured, *, ascii_only: bool = False) -> str:
    """`▆▆▆|▃▂▁  -3 s to 12 s, 31.0 MiB to 50.2 MiB`; `|` is the moment of the write."""
    found = one.curve
    if found is None:
        return ""
    marks = found.sparkline
    if ascii_only:
        marks = marks.translate(_PLAIN)
    ends = (print_seconds(at) for at in (found.seconds[0], found.seconds[-1]))
    return f"{marks}  {' to '.join(ends)}, {found.low} to {found.high}"


def trend(
    samples: Sequence[tuple[datetime, int]], columns: int, *, ascii_only: bool = False
) -> Text | None:
    """`▁▂▃▅█  11.0 MiB at 03:10 to 72.1 MiB at 12:20`, from zero up; None: no two samples.

    The largest of those that share a place is drawn, in local time.
    """
    if len(samples) < 2:
        return None
    since, until = samples[0][0], samples[-1][0]
    seconds = (until - since).total_seconds() or 1.0
    cells = max(2, min(MOST_TREND_CELLS, columns - 40, len(samples)))
    largest: dict[int, int] = {}
    for at, used in samples:
        place = round((at - since).total_seconds() / seconds * (cells - 1))
        largest[place] = max(used, largest.get(place, 0))
    most = max(largest.values()) or 1
    marks = "".join(
        BLOCKS[round(largest[place] / most * 7)] if place in largest else "·"
        for place in range(cells)
    )
    drawn = Text(marks.translate(_PLAIN) if ascii_only else marks, style="cyan")
    both = (samples[0], samples[-1])
    ends = (f"{print_bytes(used)} at {at.astimezone():%H:%M}" for at, used in both)
    return drawn.append(f"  {' to '.join(ends)}", style="dim")


def history(reading: Mapping[str, Any]) -> str:
    """Memory over days, of a reading of metric_history; empty: there is none."""
    metrics = reading.get("metrics")
    track = metrics.get("used_memory_bytes") if isinstance(metrics, Mapping) else None
    if not isinstance(track, Mapping):
        return ""
    ends = [number(track.get(name)) for name in ("first", "last", "least", "most")]
    first, last, least, most = (0.0 if value is None else value for value in ends)
    if None in ends:
        return ""
    since, until = (str(reading.get(name, ""))[:16].replace("T", " ") for name in _SPAN)
    told = f"{print_bytes(first)} at {since} to {print_bytes(last)} at {until} UTC"
    told += f", between {print_bytes(least)} and {print_bytes(most)}"
    full = number(reading.get("seconds_to_full"))
    return told + (f"; full in {print_seconds(full)} at this growth" if full is not None else "")


_SPAN = ("since", "until")


def newest(evidence: Sequence[Any], tool: str, most: int) -> list[Any]:
    """The newest look with this tool at each node, at most so many of them."""
    by_node = {piece.node: piece for piece in evidence if piece.tool == tool}
    return list(by_node.values())[:most]
