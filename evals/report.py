"""The suite's report for people (Markdown) and for build servers (JUnit)."""

from typing import Any
from xml.sax.saxutils import quoteattr

Report = dict[str, Any]


def markdown(report: Report) -> str:
    """The report as a page."""
    lines = [
        f"# {report['n']} recorded incidents, reasoner `{report['reasoner']}`",
        "",
        "| measure | value | 95 % interval |",
        "|---|---|---|",
        *(_rate(report, name, title) for name, title in _RATES.items()),
        f"| harmful remedies proposed | {report['harmful_proposed']} | |",
        f"| hallucinated evidence | {report['hallucinated_evidence']} | |",
        f"| expected calibration error | {report['ece']:.3f} | |",
        f"| top-1, held back (n={report['held_back']['n']}) | {_held_back(report)} |",
        f"| seconds | {report['seconds']:.1f} | |",
        "",
        "| baseline | top-1 |",
        "|---|---|",
        *(f"| {name} | {value:.1%} |" for name, value in report["baselines"].items()),
        "",
        "| slice | n | top-1 | culprit |",
        "|---|---|---|---|",
        *(
            f"| {name} | {part['n']} | {part['top1']:.1%} | {part['culprit']:.1%} |"
            for name, part in report["slices"].items()
        ),
        "",
        "| incident | expected | got | cause | culprit | s |",
        "|---|---|---|---|---|---|",
        *map(_incident, report["incidents"]),
        "",
    ]
    return "\n".join(lines)


_RATES = {
    "top1": "root cause (top-1)",
    "culprit": "culprit",
    "false_positive_rate": "false positives",
    "evidence_precision": "evidence precision",
}


def _rate(report: Report, name: str, title: str) -> str:
    _, low, high = report["intervals"][name]
    return f"| {title} | {report[name]:.1%} | {low:.1%} to {high:.1%} |"


def _held_back(report: Report) -> str:
    _, low, high = report["held_back"]["intervals"]["top1"]
    return f"{report['held_back']['top1']:.1%} | {low:.1%} to {high:.1%}"


def _incident(row: dict[str, Any]) -> str:
    marks = " | ".join("right" if row[name] else "**wrong**" for name in ("right", "culprit"))
    wanted = " or ".join(row["expected"])
    return f"| {row['id']} | {wanted} | {row['got']} | {marks} | {row['seconds']:.2f} |"


def junit(report: Report) -> str:
    """One test case an incident."""
    rows = report["incidents"]
    wrong = sum(not row["right"] for row in rows)
    name = quoteattr(f"redis-oncall evals ({report['reasoner']})")
    cases = "".join(map(_case, rows))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuite name={name} tests="{len(rows)}" failures="{wrong}">{cases}</testsuite>\n'
    )


def _case(row: dict[str, Any]) -> str:
    head = f'<testcase name={quoteattr(row["id"])} time="{row["seconds"]}"'
    if row["right"]:
        return f"{head}/>"
    said = quoteattr(f"expected {' or '.join(row['expected'])}, got {row['got']}")
    return f"{head}><failure message={said}/></testcase>"
