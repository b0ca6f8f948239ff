"""What keeps it from coming back, with this server's numbers put in. Pure."""

import re
from collections.abc import Collection, Sequence

from agent.facts import UNITS
from agent.figures import DERIVED, Unmeasured, look_up, printed
from agent.runbook import Prevention, Runbook
from tools.reading import Evidence

PLACEHOLDER = re.compile(r"\{([a-z][a-z_]*(?:\.[\w-]+)+)(?::([a-z_]+))?\}")
"""`{<tool>.<path>:<unit>}`; other braces, a hash tag such as {user:1}, are text."""
MOST_ITEMS = 20


def render_prevention(
    runbooks: Sequence[Runbook], evidence: Sequence[Evidence], causes: Collection[str] = ()
) -> list[str]:
    """Items of the diagnosed causes first, then those of the runbooks; each once, at most 20."""
    items: list[str | Prevention] = []
    for book in runbooks:
        for cause in book.front.causes:
            items += cause.prevention if cause.id in causes else []
    for book in runbooks:
        items += book.front.prevention
    rendered = (render(item, evidence) for item in items)
    return list(dict.fromkeys(text for text in rendered if text))[:MOST_ITEMS]


def render(item: str | Prevention, evidence: Sequence[Evidence]) -> str:
    """The item with its numbers; without them what it says otherwise, or which is not measured."""
    texts = [item[:600]] if isinstance(item, str) else [item.text, *item.otherwise]
    said = ""
    for text in texts:
        said, whole = _put_in(text, evidence)
        if whole:
            break
    return said


def _put_in(text: str, evidence: Sequence[Evidence]) -> tuple[str, bool]:
    """The text with its numbers, and whether all of them were measured."""
    whole = True

    def number(found: re.Match[str]) -> str:
        nonlocal whole
        try:
            return printed(look_up(evidence, found[1]).value, found[2] or "")
        except Unmeasured:
            whole = False
            return "(not measured)"

    return PLACEHOLDER.sub(number, text), whole


def placeholders(item: str | Prevention) -> list[tuple[str, str]]:
    """(path, unit) of every placeholder: what lint checks."""
    texts = [item] if isinstance(item, str) else [item.text, *item.otherwise]
    return [(found[1], found[2] or "") for text in texts for found in PLACEHOLDER.finditer(text)]


def is_unit(unit: str) -> bool:
    """Whether numbers can be printed so."""
    return unit in UNITS


def is_derived(path: str) -> bool:
    """Whether the path names a figure computed from several readings."""
    return path in DERIVED
