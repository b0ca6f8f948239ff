"""The suite's report for people (Markdown) and for build servers (JUnit).

Measures are shown as the report has them: a new one needs nothing here.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

Report = dict[str, Any]

TITLES = {
    "top1": "root cause (top-1)",
    "culprit": "culprit",
    "false_positive_rate": "false positives",
    "evidence_precision": "evidence precision",
    "harmful_proposed": "harmful remedies proposed",
    "ece": "expected calibration error",
    "auroc": "AUROC of confidence",
    "brier": "Brier score",
    "contributing_exact": "cause and all that contributes, exactly",
    "abstention_right": "abstention (unknown where nobody can know)",
    "remedy_found": "a right remedy, where there is one",
}
"""Where the name in the report does not say it well."""
_ELSEWHERE = frozenset({"n", "intervals", "held_back", "slices", "baselines", "incidents"})
"""Parts of the report with a place of their own."""
_INCIDENT = ("id", "kind", "expected", "got", "right", "named", "culprit", "confidence", "seconds")


def markdown(report: Report) -> str:
    """The report as a page."""
    head = f"# {report['n']} recorded incidents, reasoner `{report['reasoner']}`"
    parts = {"": report, "held back: ": report["held_back"]}
    rates = [row for prefix, part in parts.items() for row in _rates(prefix, part)]
    further = [
        f"## {title(name)}\n\n{_anything(value)}"
        for name, value in report.items()
        if name not in _ELSEWHERE and isinstance(value, dict | list) and value
    ]
    sections = [
        head,
        table(("measure", "value", "95 % interval"), rates + list(_numbers(report))),
        table(("baseline", "top-1"), ((n, f"{v:.1%}") for n, v in report["baselines"].items())),
        _slices(report["slices"]),
        *further,
        _incidents(report["incidents"]),
    ]
    return "\n\n".join(sections) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(line)} |" for line in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def title(name: str) -> str:
    """A measure for people."""
    return TITLES.get(name, name.replace("_", " "))


def _rates(prefix: str, part: Report) -> Iterator[tuple[str, str, str]]:
    for name, interval in part.get("intervals", {}).items():
        yield prefix + title(name), *rate(interval)


def rate(interval: Sequence[float]) -> tuple[str, str]:
    """A rate [value, low, high] and its interval; of nothing it is between 0 and 1: not known."""
    value, low, high = interval
    if (low, high) == (0.0, 1.0):
        return "not known", ""
    return f"{value:.1%}", f"{low:.1%} to {high:.1%}"


def _numbers(report: Report) -> Iterator[tuple[str, str, str]]:
    for name, value in report.items():
        if name not in report["intervals"] and name not in _ELSEWHERE:
            if isinstance(value, int | float | None):
                yield title(name), _figure(value), ""
            elif isinstance(value, str) and name != "reasoner":
                yield title(name), value, ""


def _figure(value: object) -> str:
    if value is None:
        return "not defined"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, list):
        return ", ".join(map(_figure, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_figure(part)}" for name, part in value.items())
    return str(value).replace("|", "\\|").replace("\n", " ")


def _anything(value: Any) -> str:
    """A list of records as a table with their fields; a record as a table of two columns."""
    if isinstance(value, list):
        columns = list(dict.fromkeys(name for row in value for name in row))
        return table(columns, ([_figure(row.get(name, "")) for name in columns] for row in value))
    plain = {k: v for k, v in value.items() if not _is_records(v)}
    tables = [table(("", ""), ((title(k), _figure(v)) for k, v in plain.items()))] if plain else []
    tables += [f"{title(k)}:\n\n{_anything(v)}" for k, v in value.items() if k not in plain]
    return "\n\n".join(tables)


def _is_records(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _slices(slices: dict[str, Report]) -> str:
    """Slices with what all of them measure."""
    seen = dict.fromkeys(name for part in slices.values() for name in part)
    names = [name for name in seen if name not in ("n", "intervals")]
    rows = (
        (name, str(part["n"]), *(_share(part, measure) for measure in names))
        for name, part in slices.items()
    )
    return table(("slice", "n", *map(title, names)), rows)


def _share(part: Report, measure: str) -> str:
    value = part.get(measure)
    if measure in part.get("intervals", {}) and isinstance(value, int | float):
        return rate(part["intervals"][measure])[0]
    return "" if value is None else _figure(value)


def _incidents(rows: Sequence[Report]) -> str:
    more = list(dict.fromkeys(name for row in rows for name in row if name not in _INCIDENT))
    head = ("incident", "kind", "expected", "got", "cause", "named", "culprit", "sure", "s", *more)
    return table(head, (_incident(row, more) for row in rows))


def _incident(row: Report, more: Sequence[str]) -> list[str]:
    named = row.get("named") or {}
    sure = row.get("confidence")
    return [
        row["id"],
        row.get("kind", ""),
        " or ".join(row["expected"]),
        row["got"],
        "right" if row["right"] else "**wrong**",
        _figure(" ".join(filter(None, (named.get("kind", ""), named.get("name", ""))))),
        "right" if row["culprit"] else "**wrong**",
        "" if sure is None else f"{sure:.2f}",
        f"{row['seconds']:.2f}",
        *(_figure(row.get(name, "")) for name in more),
    ]


# -- for build servers ----------------------------------------------------------------------


def junit(report: Report) -> str:
    """One test case an incident; a crash is an error, a wrong cause a failure."""
    rows = report["incidents"]
    errors = sum(bool(row.get("failure")) for row in rows)
    wrong = sum(not row["right"] for row in rows) - errors
    name = quoteattr(f"redis-oncall evals ({report['reasoner']})")
    counts = f'tests="{len(rows)}" failures="{wrong}" errors="{errors}"'
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuite name={name} {counts} time="{report["seconds"]}">'
        f"{''.join(map(_case, rows))}</testsuite>\n"
    )


def _case(row: Report) -> str:
    named = f"name={quoteattr(row['id'])} classname={quoteattr(row.get('kind', 'incident'))}"
    head = f'<testcase {named} time="{row["seconds"]}"'
    if row["right"]:
        return f"{head}/>"
    if row.get("failure"):
        return f"{head}><error message={quoteattr(_printable(row['failure']))}/></testcase>"
    said = quoteattr(f"expected {' or '.join(row['expected'])}, got {row['got']}")
    return f"{head}><failure message={said}>{escape(str(row.get('named')))}</failure></testcase>"


def _printable(text: str) -> str:
    """XML 1.0 has no control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
