"""An analysis of a keyspace as a person reads it: 80 columns, most bytes first."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tools.encodings import Encodings
from tools.hotkeys import HotKeys, KeysInUse
from tools.keyspace import BigKeys, Bin, EveryKeyCounts, SampledShares
from tools.reading import NotMeasured
from tools.summaries import count, percent, size

ROWS = 10
BAR = 24


@dataclass
class Analysis:
    """What was seen of a server's keys."""

    node: str
    taken_at: datetime
    keys: BigKeys
    encodings: Encodings | NotMeasured | None = None
    hot_keys: HotKeys | NotMeasured | None = None
    target: str = ""
    remarks: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """One document."""
        parts = {"bigkeys": self.keys, "encodings": self.encodings, "hot_keys": self.hot_keys}
        return {
            "target": self.target,
            "node": self.node,
            "taken_at": self.taken_at.isoformat(),
            "remarks": self.remarks,
            **{name: _json(part) for name, part in parts.items()},
        }


def _json(part: BaseModel | None) -> Any:
    return None if part is None else part.model_dump(mode="json")


def analysis_report(found: Analysis) -> RenderableType:
    """What holds the memory, how sure that is, and what would save some."""
    keys = found.keys
    parts: list[RenderableType] = [*_head(found)]
    if keys.top_by_bytes:
        parts += [_title("Largest keys"), _largest(keys)]
    if isinstance(keys.sampled, SampledShares):
        parts += _sampled(keys.sampled)
    elif keys.prefixes:
        parts += [_title("Prefixes"), _prefixes(keys)]
    if keys.types:
        parts += [_title("Types"), _types(keys)]
    if keys.every_key is not None:
        parts += _histograms(keys.every_key)
    if found.encodings is not None:
        parts += _encodings(found.encodings)
    if found.hot_keys is not None:
        parts += _hot(found.hot_keys)
    if keys.resume:
        parts += [
            _title("Not everything was seen. To go on, with the same URL or name:"),
            Text(f"  --resume {keys.resume}", overflow="fold"),
        ]
    return Group(*parts)


def _head(found: Analysis) -> list[RenderableType]:
    keys = found.keys
    head = Text(f"{found.target}  ", style="bold")
    head.append(found.node, style="dim")
    seen = (
        f"{count(keys.keys_seen)} of {count(keys.keys_total)} keys ({percent(keys.coverage)}), "
        f"{size(keys.bytes_seen)} of a dataset of {size(keys.dataset_bytes)}, in "
        f"{keys.seconds:.1f} s at a {keys.pace} pace"
    )
    lines: list[RenderableType] = [head, Text(seen)]
    style = "" if keys.complete else "yellow"
    lines += [Text(line, style=style) for line in (keys.stopped_because, *found.remarks)]
    if isinstance(keys.sampled, NotMeasured):
        lines.append(Text(f"no shares: {keys.sampled.because}", style="yellow"))
    return lines


def _largest(keys: BigKeys) -> RenderableType:
    table = _table("bytes", "type", "elements", "TTL", "idle", name="key")
    for row in keys.top_by_bytes[:ROWS]:
        never = row.ttl_seconds == -1
        table.add_row(
            size(row.bytes), row.type, count(row.elements),
            "never" if never else _time(row.ttl_seconds), _time(row.idle_seconds), Text(row.key),
        )  # fmt: skip
    return table


def _prefixes(keys: BigKeys) -> RenderableType:
    table = _table("bytes", "share", "keys", "no TTL", name="prefix")
    for row in keys.prefixes[:ROWS]:
        table.add_row(
            size(row.bytes), percent(row.share_of_bytes), count(row.keys),
            percent(row.without_ttl_share), Text(row.prefix),
        )  # fmt: skip
    return _with_rest(table, len(keys.prefixes) - ROWS)


def _sampled(shares: SampledShares) -> list[RenderableType]:
    title = f"Prefixes, of what keys up to {size(shares.threshold_bytes)} hold"
    table = _table("share", "at least", "at most", name="prefix")
    for row in shares.prefixes[:ROWS]:
        table.add_row(
            percent(row.share), percent(row.least_share), percent(row.most_share), Text(row.prefix)
        )
    lines: list[RenderableType] = [_title(title), table]
    hidden = "there are large keys that were not met" if shares.hides_large_keys else "errors"
    lines.append(Text(f"  larger keys that were met hold {size(shares.known_bytes)}; unseen is "
                      f"{size(shares.unseen_bytes)}: {hidden}"))  # fmt: skip
    if isinstance(shares.not_met, list):
        lines += [
            Text(
                f"  not met: {count(row.keys)} {row.type} of {count(row.elements)} elements or more"
            )
            for row in shares.not_met[:ROWS]
        ]
    return lines


def _types(keys: BigKeys) -> RenderableType:
    table = _table("bytes", "share", "keys", name="type")
    for row in keys.types:
        table.add_row(size(row.bytes), percent(row.share_of_bytes), count(row.keys), row.type)
    return table


def _histograms(counts: EveryKeyCounts) -> list[RenderableType]:
    lines: list[RenderableType] = [_title("Time to live"), _bars(_bins(counts.ttl))]
    lines.append(_title("Not used for"))
    if isinstance(counts.idle, NotMeasured):
        lines.append(Text(f"  {counts.idle.because}"))
    else:
        lines.append(_bars(_bins(counts.idle)))
    if isinstance(counts.frequency, list):
        rows = [(f"to {row.frequency}", row.keys) for row in counts.frequency]
        lines += [_title("Frequency (logarithmic, 255 at most)"), _bars(rows)]
    return lines


def _bins(bins: Sequence[Bin]) -> list[tuple[str, int]]:
    rows = []
    for each in bins:
        word = "never" if each.never else "longer"
        rows.append((word if each.below_seconds is None else f"< {_time(each.below_seconds)}",
                     each.keys))  # fmt: skip
    return rows


def _bars(rows: Sequence[tuple[str, int]]) -> RenderableType:
    most = max((number for _, number in rows), default=0) or 1
    table = Table.grid(padding=(0, 2))
    for justify in ("right", "right", "left"):
        table.add_column(justify=justify)
    for label, number in rows:
        table.add_row(f"  {label}", count(number), "█" * round(BAR * number / most))
    return table


def _encodings(found: Encodings | NotMeasured) -> list[RenderableType]:
    if isinstance(found, NotMeasured):
        return [_title("Encodings"), Text(f"  not measured: {found.because}")]
    title = f"Encodings, of {count(found.keys_seen)} keys at random"
    table = _table("bytes", "keys", "elements", "encoding", name="prefix")
    for row in found.rows[:ROWS]:
        name = row.encoding if row.type in row.encoding else f"{row.type}, {row.encoding}"
        table.add_row(size(row.bytes), count(row.keys), count(row.elements), name, Text(row.prefix))
    lines: list[RenderableType] = [_title(title), _with_rest(table, len(found.rows) - ROWS)]
    hint = "; --lengths reads them" if "were left alone" in found.stopped_because else ""
    lines.append(_indented(found.stopped_because + hint, "dim"))
    lines.append(_title("What would save memory"))
    for advice in found.advice[:ROWS]:
        saved = advice.saved_bytes
        head = Text("- ")
        head.append(f"{advice.prefix} ({advice.type}): ", style="bold")
        head.append(advice.change)
        lines += [
            head,
            _indented("not measured: " + saved.because if isinstance(saved, NotMeasured) else
                      f"{size(saved)} less, at least"),
            _indented(f"{count(advice.sampled)} keys sampled: {size(advice.now_bytes)} now, "
                      f"{size(advice.least_after_bytes)} to {size(advice.most_after_bytes)} after"),
            _indented(advice.sure, "dim"),
        ]  # fmt: skip
    if not found.advice:
        lines.append(Text("  nothing is known to"))
    return lines


def _hot(found: HotKeys | NotMeasured) -> list[RenderableType]:
    lines: list[RenderableType] = [_title("Hot keys")]
    if isinstance(found, NotMeasured):
        hint = "; --hot finds those in use all along" if "in_use" in found.remedy else ""
        return [*lines, Text(f"  not known: {found.because}{hint}")]
    if isinstance(found.hottest, list):
        table = _table("frequency", name="key")
        for row in found.hottest:
            table.add_row(str(row.frequency), Text(row.key))
        lines.append(table)
    if isinstance(found.counted, list):
        table = _table("calls/s", "CPU µs", "bytes", name="key (HOTKEYS)")
        for one in found.counted[:ROWS]:
            numbers = (one.calls_per_second, one.cpu_microseconds, one.net_bytes)
            table.add_row(*("" if each is None else count(each) for each in numbers), Text(one.key))
        lines.append(table)
    if isinstance(found.in_use, KeysInUse):
        lines.append(
            Text(f"  {count(found.in_use.each_time)} keys were in use at each of "
                 f"{found.in_use.looks} looks, a second apart; how often is not known")
        )  # fmt: skip
        lines += [Text(f"  {key}", overflow="fold") for key in found.in_use.keys]
    lines.append(
        Text(f"  {count(found.keys_seen)} keys seen; {found.stopped_because}", style="dim")
    )
    return lines


def _table(*numbers: str, name: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for each in numbers:
        left = each in ("type", "encoding")
        table.add_column(f"  {each}" if each == numbers[0] else each, no_wrap=not left,
                         justify="left" if left else "right")  # fmt: skip
    table.add_column(name, overflow="fold", ratio=1)
    return table


def _with_rest(table: Table, more: int) -> RenderableType:
    return (
        Group(table, Text(f"  and {more} more (--json has them)", style="dim"))
        if more > 0
        else table
    )


def _time(seconds: object) -> str:
    """Seconds for people: `17 h`; `?` if they were not measured."""
    if not isinstance(seconds, int | float):
        return "?"
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def _indented(text: str, style: str = "") -> RenderableType:
    return Padding(Text(text, style=style, overflow="fold"), (0, 0, 0, 2))


def _title(text: str) -> RenderableType:
    return Padding(Text(text, style="underline"), (1, 0, 0, 0))
