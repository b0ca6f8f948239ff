"""What `evals live` found, kept row by row, and the page that shows it.

A run is long, so it is made in slices: each row is that of the latest run of its fault and build.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals import report as reports
from evals.score import wilson
from evals.servers import BUILDS

ROWS = Path(__file__).parent / "live.json"
PAGE = ROWS.with_suffix(".md")
Row = Mapping[str, Any]
_KEPT = ("fault", "build", "seed", "right", "got", "mitigated", "collateral", "lost_to_fault")
_HEAD = ("mode", "build", "cause", "applied", "verified", "mitigated", "harmed", "s")


def kept(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of one run, as they are kept."""
    return [
        {name: row[name] for name in _KEPT}
        | {
            "applied": [[action["kind"], action["status"]] for action in row["actions"]],
            "because": "" if row["mitigated"] else why_not(row),
            "seconds": round(row["took"]),
        }
        for row in report["incidents"]
    ]


def why_not(row: Row) -> str:
    """What is left of the symptom, or how the mode crashed."""
    return row["failure"] or "; ".join(row["remaining"])


def merge(before: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """Newer rows in place of older ones, in the order of faults and builds."""
    by_mode = {(row["fault"], row["build"]): row for row in (*before, *rows)}
    return [by_mode[key] for key in sorted(by_mode, key=lambda key: (key[0], BUILDS.index(key[1])))]


def write(report: Mapping[str, Any], machine: str) -> None:
    """Add a run to what is kept, and write the page anew."""
    before = json.loads(ROWS.read_text()) if ROWS.exists() else {"rows": []}
    document = {"machine": machine, "rows": merge(before["rows"], kept(report))}
    ROWS.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(page(document))


def page(document: Mapping[str, Any]) -> str:
    """The Markdown of all rows."""
    rows: Sequence[Row] = document["rows"]
    right = [row for row in rows if row["right"]]
    harmed = sum(len(row["collateral"]) for row in rows)
    faults, builds = {row["fault"] for row in rows}, {row["build"] for row in rows}
    parts = [
        "# Remedies on live servers",
        "Made by `redis-oncall evals live --builds all --write`; what is judged, and how, is in "
        "[README](README.md#on-live-servers).\n"
        f"{len(rows)} runs: {len(faults)} modes, {len(builds)} builds, one seed each; "
        f"{document['machine']}. Each row is that of the latest run of its mode and build. Where "
        "single rows were run again, after a failure or a fix, the rates below are better than "
        "those of one run of all of them: only such a run measures a rate.",
        reports.table(
            ("measure", "value", "95 % interval (Wilson)"),
            [
                _rate("cause right", len(right), len(rows)),
                _rate("mitigated", sum(row["mitigated"] for row in rows), len(rows)),
                _rate(
                    "mitigated, where the cause was right",
                    sum(row["mitigated"] for row in right),
                    len(right),
                ),
                ("bystanders harmed", str(harmed), ""),
            ],
        ),
        reports.table(_HEAD, [_line(row) for row in rows]),
        *_rest(rows),
    ]
    return "\n\n".join(parts) + "\n"


def _rate(name: str, part: int, whole: int) -> tuple[str, str, str]:
    return name, *reports.rate(wilson(part, whole))


def _line(row: Row) -> tuple[str, ...]:
    return (
        row["fault"],
        row["build"],
        "right" if row["right"] else f"**{row['got']}**",
        ", ".join(f"`{kind}`" for kind, _ in row["applied"]) or "nothing",
        verified(row),
        "yes" if row["mitigated"] else "**no**",
        "; ".join(row["collateral"]) or "nothing",
        str(row["seconds"]),
    )


def verified(row: Row) -> str:
    """How many of the applied actions were verified."""
    applied = row["applied"]
    return f"{sum(status == 'verified' for _, status in applied)} of {len(applied)}"


def _rest(rows: Sequence[Row]) -> list[str]:
    said = [f"- {r['fault']} on {r['build']}: {r['because']}" for r in rows if not r["mitigated"]]
    lost = [
        f"- {row['fault']} on {row['build']}: {'; '.join(row['lost_to_fault'])}"
        for row in rows
        if row["lost_to_fault"]
    ]
    parts = ["## Not mitigated", "\n".join(said)] if said else []
    return parts + (["## Lost to the fault itself", "\n".join(lost)] if lost else [])
