"""A sizing in words: the sum, when the limit is met, and the two ways to more room."""

import textwrap

from tools.growth import DAY
from tools.reading import NotMeasured, number
from tools.resize import InstanceResize
from tools.size_artefacts import worded

WIDTH = 72
"""Columns of the arithmetic: it is shown indented on terminals of 80."""


def arithmetic(size: InstanceResize) -> list[str]:
    """The sizing as a sum that a person can follow, in lines of at most 72 columns."""
    lines: list[str] = []
    for step in size.steps:
        sign = "+" if lines else " "
        lines += _row(sign, step.bytes, f"{step.name}: {step.how}")
    lines += _row("=", size.needed_bytes, "needed in all")
    lines += _row(" ", size.recommended_maxmemory, "of it maxmemory")
    if isinstance(size.current_limit, int):
        lines += _row(" ", size.current_limit, f"limit now ({size.limit_source})")
    lines += textwrap.wrap(full_in(size), WIDTH)
    for way in size.ways:
        title = f"{way.way} (better)" if way.better else way.way
        said = "; ".join([*way.because, *way.touches])
        lines += textwrap.wrap(f"{title}: {said}", WIDTH, subsequent_indent="  ")
    return lines


def _row(sign: str, size: int, said: str) -> list[str]:
    head = f"{sign} {worded(size):>14}  "
    return textwrap.wrap(
        said, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
    )


def full_in(size: InstanceResize) -> str:
    """When the limit is met, with how sure that is."""
    seconds = number(size.seconds_to_full)
    if seconds is None:
        because = (
            size.seconds_to_full.because if isinstance(size.seconds_to_full, NotMeasured) else ""
        )
        return f"Full: unknown ({because})."
    soonest, latest = number(size.seconds_to_full_soonest), number(size.seconds_to_full_latest)
    if size.growth_from == "two samples":
        return f"Full in {_span(seconds)} if the pace of these seconds went on: a guess."
    after = "perhaps never" if latest is None else f"at the latest {_span(latest)}"
    before = "unknown" if soonest is None else _span(soonest)
    return f"Full in {_span(seconds)}; at the soonest {before}, {after} (90 %)."


def _span(seconds: float) -> str:
    if seconds < 2 * 3_600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.0f} h" if seconds < 2 * DAY else f"{seconds / DAY:,.0f} days"
