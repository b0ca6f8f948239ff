"""Finds what is wrong with runbooks before an incident does: names, sections, harmful commands."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from agent.causes import CATALOGUED
from agent.checklist import CHECKS, check_for
from agent.facts import UNITS
from agent.figures import DERIVED
from agent.harmful import harm_in
from agent.prevention import placeholders
from agent.runbook import Cause, Problem, ProposedRemedy, Runbook
from agent.runbook_library import RunbookError, load_runbook, runbook_files
from agent.runbook_prose import ChecklistLine, checklist_of, sections_of
from agent.signals import SIGNALS
from tools.reads import READS
from tools.remedies.catalogue import REMEDIES

REQUIRED_SECTIONS = (
    "Symptoms",
    "Root Cause Analysis",
    "Immediate Remediation",
    "Long-term Prevention",
    "Monitoring & Alerting",
    "Production Checklist",
)
_DURATION = re.compile(r"\d+(ms|s|m|h|d)")
_Finding = tuple[str, str, str]
"""field, message, remedy"""


def lint(paths: Iterable[str | Path]) -> list[Problem]:
    """Problems of the runbooks in these files and folders, file by file."""
    problems: list[Problem] = []
    ids: dict[str, str] = {}
    for path in _files(map(Path, paths), problems):
        try:
            book = load_runbook(path)
        except RunbookError as error:
            problems.append(error.problem)
            continue
        problems += _in_runbook(book, path)
        if book.id in ids:
            message = f"'{book.id}' is also the id of {ids[book.id]}"
            problems.append(
                _problem(path, ("id", message, "give one of them another id"), _line(path, "id"))
            )
        ids.setdefault(book.id, str(path))
    return problems


def _files(paths: Iterable[Path], problems: list[Problem]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        try:
            yield from runbook_files(path)
        except RunbookError as error:
            problems.append(error.problem)


def _in_runbook(book: Runbook, path: Path) -> Iterator[Problem]:
    above = _lines_above_body(path, book.body)
    for line, section, message, remedy in harm_in(book.body):
        yield _problem(path, (section or "body", message, remedy), line + above)
    if book.prose_only:
        return
    for finding in _in_front(book):
        yield _problem(path, finding, _line(path, finding[1]))
    present = sections_of(book.body)
    for section in REQUIRED_SECTIONS:
        if section not in present:
            remedy = f"add `## {section}`; runbooks/README.md shows what goes there"
            yield _problem(path, (section, f"the section '{section}' is missing", remedy))
    for item in checklist_of(book.body):
        for finding in _in_checklist(book, item):
            yield _problem(path, finding, _line(path, f"'{item.text}'"))


def _in_checklist(book: Runbook, item: ChecklistLine) -> Iterator[_Finding]:
    if (check := check_for(book, item)) is None:
        message = f"no check is assigned to '{item.text}'"
        yield "checklist", message, "end the line with `<!-- check: <name> -->`"
    else:
        yield from _unknown("checklist", "check", [check], CHECKS)


def _in_front(book: Runbook) -> Iterator[_Finding]:
    front = book.front
    yield from _unknown("baseline", "tool", front.baseline, READS)
    for index, cause in enumerate(front.causes):
        yield from _in_cause(f"causes.{index}", cause)
    for index, threshold in enumerate(front.alerts):
        field = f"alerts.{index}"
        yield from _in_path(f"{field}.when", threshold.when)
        if (threshold.above, threshold.below, threshold.equals) == (None, None, None):
            yield field, f"'{threshold.when}' has no bound", "add above, below or equals"
        if not _DURATION.fullmatch(threshold.for_):
            yield f"{field}.for", f"'{threshold.for_}' is no duration", "write it as 30s, 5m or 1h"
    yield from _unknown("checklist", "check", [c.check for c in front.checklist], CHECKS)
    for index, remedy in enumerate(front.remedies):
        yield from _in_remedy(f"remedies.{index}", remedy)
        yield from _unknown(f"remedies.{index}.for_causes", "cause", remedy.for_causes, CATALOGUED)
    for index, item in enumerate(front.prevention):
        yield from _in_template(f"prevention.{index}", placeholders(item))


def _in_cause(field: str, cause: Cause) -> Iterator[_Finding]:
    yield from _unknown(f"{field}.id", "cause", [cause.id], CATALOGUED)
    for name in ("needs", "supported_by", "ruled_out_by", "asked"):
        yield from _unknown(f"{field}.{name}", "signal", getattr(cause, name), SIGNALS)
    for look in cause.ask_next:
        yield from _unknown(f"{field}.ask_next", "tool", [look.tool], READS)
        if look.tool in READS:
            known = READS[look.tool].args.model_fields
            yield from _unknown(f"{field}.ask_next.args", "argument", look.args, known)
    for remedy in cause.remedies:
        proposed = ProposedRemedy(kind=remedy) if isinstance(remedy, str) else remedy
        yield from _in_remedy(f"{field}.remedies", proposed)
    for item in cause.prevention:
        yield from _in_template(f"{field}.prevention", placeholders(item))


def _in_remedy(field: str, remedy: ProposedRemedy) -> Iterator[_Finding]:
    yield from _unknown(field, "remedy", [remedy.kind], REMEDIES)
    if remedy.kind in REMEDIES:
        known = REMEDIES[remedy.kind].args.model_fields
        yield from _unknown(f"{field}.args", "argument", remedy.args, known)


def _in_template(field: str, found: list[tuple[str, str]]) -> Iterator[_Finding]:
    for path, unit in found:
        yield from _in_path(field, path)
        yield from _unknown(field, "unit", [unit], UNITS)


def _unknown(
    field: str, what: str, names: Iterable[str], known: Iterable[str]
) -> Iterator[_Finding]:
    catalogue = sorted(name for name in known if name)
    for name in names:
        if name and name not in catalogue:
            yield field, f"unknown {what} '{name}'", f"use one of: {', '.join(catalogue)}"


def _in_path(field: str, path: str) -> Iterator[_Finding]:
    """Whether `<tool>.<path>` leads to a field of the tool's reading."""
    if path in DERIVED:
        return
    tool, _, rest = path.partition(".")
    if tool not in READS:
        yield from _unknown(field, "tool", [tool], [*READS, *DERIVED])
    elif not _leads(READS[tool].reading, rest.split(".")):
        known = ", ".join(READS[tool].reading.model_fields)
        yield field, f"{tool} has no '{rest}'", f"its fields are: {known}"


def _leads(shape: Any, steps: list[str]) -> bool:
    """Whether the steps lead somewhere in a type: model fields, list indexes, mapping keys."""
    if not steps:
        return True
    origin = get_origin(shape)
    if origin in (Union, UnionType):
        return any(_leads(option, steps) for option in get_args(shape))
    if origin is list:
        return steps[0].isdecimal() and _leads(get_args(shape)[0], steps[1:])
    if origin is dict:
        return _leads(get_args(shape)[1], steps[1:])
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        field = shape.model_fields.get(steps[0])
        return field is not None and _leads(field.annotation, steps[1:])
    return False


def _lines_above_body(path: Path, body: str) -> int:
    return path.read_text(encoding="utf-8").count("\n") - body.count("\n")


def _line(path: Path, message: str) -> int | None:
    """The first line of the file that holds the name the message quotes."""
    quoted = re.search(r"'([^']+)'", message)
    if quoted is None:
        return None
    with path.open(encoding="utf-8", errors="replace") as file:
        return next((n for n, line in enumerate(file, 1) if quoted[1] in line), None)


def _problem(path: Path, finding: _Finding, line: int | None = None) -> Problem:
    field, message, remedy = finding
    return Problem(file=str(path), line=line, field=field, message=message, remedy=remedy)
