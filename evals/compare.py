"""Two reports of `evals run --json`, and what changed between them, incident by incident."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Report = dict[str, Any]
WORSE_IF_MORE = (
    "false_positive_rate", "harmful_proposed", "harmful_advised", "hallucinated_evidence",
    "failures",
)  # fmt: skip
"""Measures that may never rise; an incident that becomes wrong is a regression, too."""
NOT_COMPARED = frozenset({"n"})
_SAID = ("got", "named", "confidence")


class NotAReport(ValueError):
    """The file is no report of `evals run --json`."""


def read_report(path: Path) -> Report:
    """Load a report. Raises NotAReport, OSError."""
    try:
        report = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise NotAReport(f"it is not JSON: {error}") from None
    if not isinstance(report, dict) or not {"n", "top1", "incidents"} <= report.keys():
        raise NotAReport("it is not a report of `evals run --json`")
    return report


def compare(before: Report, after: Report) -> dict[str, Any]:
    """What changed, as `evals compare --json` prints it.

    `fixed` and `broken` became right and wrong; `changed` stayed what it was and says something
    else (cause, culprit, or confidence by more than 0.01). `culprits` of incidents whose cause
    was right both times are counted apart. An incident that is gone is a regression: leaving out
    what is hard would look like progress.
    """
    old, new = ({row["id"]: row for row in report["incidents"]} for report in (before, after))
    both = sorted(old.keys() & new.keys())
    pairs = {name: (old[name], new[name]) for name in both}
    metrics = list(_metrics(before, after))
    broken = [_change(*p) for p in pairs.values() if p[0]["right"] and not p[1]["right"]]
    culprit_lost = [_change(*p) for p in pairs.values() if p[0]["culprit"] and not p[1]["culprit"]]
    return {
        "before": _about(before),
        "after": _about(after),
        "metrics": metrics,
        "fixed": [_change(*p) for p in pairs.values() if p[1]["right"] and not p[0]["right"]],
        "broken": broken,
        "culprit_fixed": [
            _change(*p) for p in pairs.values() if p[1]["culprit"] and not p[0]["culprit"]
        ],
        "culprit_broken": culprit_lost,
        "changed": [
            _change(*p) for p in pairs.values() if p[0]["right"] == p[1]["right"] and _differs(*p)
        ],
        "only_before": sorted(old.keys() - new.keys()),
        "only_after": sorted(new.keys() - old.keys()),
        "regressed": bool(broken or culprit_lost or old.keys() - new.keys())
        or any(one["name"] in WORSE_IF_MORE and one["difference"] > 0 for one in metrics),
    }


def _about(report: Report) -> dict[str, Any]:
    return {"reasoner": report.get("reasoner", ""), "n": report["n"]}


def _metrics(before: Report, after: Report) -> Iterator[dict[str, Any]]:
    """Every number that both reports have, of the whole and of each slice."""
    yield from _numbers("", before, after)
    parts = {"held_back": (before.get("held_back", {}), after.get("held_back", {}))}
    for name in before.get("slices", {}).keys() & after.get("slices", {}).keys():
        parts[name] = before["slices"][name], after["slices"][name]
    for name, (old, new) in sorted(parts.items()):
        yield from _numbers(f"{name}: ", old, new)


def _numbers(prefix: str, before: Report, after: Report) -> Iterator[dict[str, Any]]:
    for name, old in before.items():
        new = after.get(name)
        if name in NOT_COMPARED or not (_is_number(old) and _is_number(new)):
            continue
        intervals = [part.get("intervals", {}).get(name) for part in (before, after)]
        yield {
            "name": prefix + name,
            "before": old,
            "after": new,
            "difference": new - old,
            "intervals_overlap": _overlap(*intervals) if all(intervals) else None,
        }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _overlap(one: list[float], other: list[float]) -> bool:
    """Wilson intervals [value, low, high]: disjoint ones differ for certain."""
    return one[1] <= other[2] and other[1] <= one[2]


def _differs(old: Report, new: Report) -> bool:
    sure = [row.get("confidence") or 0.0 for row in (old, new)]
    said = [(row["got"], row.get("named")) for row in (old, new)]
    return said[0] != said[1] or abs(sure[0] - sure[1]) > 0.01


def _change(old: Report, new: Report) -> dict[str, Any]:
    return {
        "id": new["id"],
        "expected": new["expected"],
        "before": {name: old.get(name) for name in _SAID},
        "after": {name: new.get(name) for name in _SAID},
    }


# -- for people -----------------------------------------------------------------------------

_TITLES = {
    "fixed": "Fixed",
    "broken": "Broken",
    "culprit_fixed": "Culprit fixed",
    "culprit_broken": "Culprit broken",
    "changed": "Says something else",
}


def markdown(comparison: dict[str, Any]) -> str:
    """The comparison as a page: what differs, and nothing else."""
    before, after = comparison["before"], comparison["after"]
    moved = [one for one in comparison["metrics"] if one["difference"]]
    lines = [
        f"# `{before['reasoner']}` ({before['n']}) → `{after['reasoner']}` ({after['n']})",
        "",
        "| measure | before | after | difference | intervals |",
        "|---|---|---|---|---|",
        *map(_metric, moved),
        "",
    ]
    for name, title in _TITLES.items():
        if rows := comparison[name]:
            lines += [f"## {title} ({len(rows)})", "", *map(_row, rows), ""]
    for name, title in (("only_before", "Only before"), ("only_after", "Only after")):
        if ids := comparison[name]:
            lines += [f"{title}: {', '.join(ids)}", ""]
    if not moved and not any(comparison[name] for name in _TITLES):
        lines += ["Nothing changed.", ""]
    return "\n".join(lines)


def _metric(one: dict[str, Any]) -> str:
    overlap = {None: "", True: "overlap", False: "**apart**"}[one["intervals_overlap"]]
    figures = " | ".join(f"{one[name]:.4g}" for name in ("before", "after"))
    return f"| {one['name']} | {figures} | {one['difference']:+.4g} | {overlap} |"


def _row(change: dict[str, Any]) -> str:
    said = " → ".join(_said(change[when]) for when in ("before", "after"))
    return f"- {change['id']} ({' or '.join(change['expected'])}): {said}"


def _said(answer: dict[str, Any]) -> str:
    culprit = answer["named"] or {}
    sure = answer["confidence"]
    parts = [answer["got"], str(culprit.get("name") or ""), f"{sure:.0%}" if sure else ""]
    return " ".join(filter(None, parts))
