"""The production checklist of the runbooks, held against the live server item by item. Pure."""

from collections.abc import Sequence

from agent.checks import SEED_CHECKS, Check
from agent.checks_links import LINK_CHECKS
from agent.checks_memory import MEMORY_CHECKS
from agent.figures import Look, Unmeasured
from agent.incident import ChecklistItem
from agent.runbook import Runbook
from agent.runbook_library import BASELINE
from agent.runbook_prose import ChecklistLine, checklist_of
from tools.reading import Evidence, printable

CHECKS: dict[str, Check] = SEED_CHECKS | MEMORY_CHECKS | LINK_CHECKS
"""By the name that a checklist line, or `checklist: [{item, check}]`, of a runbook gives."""
MOST_ITEMS = 40
LONGEST_ITEM = 300


def evaluate(runbooks: Sequence[Runbook], evidence: Sequence[Evidence]) -> list[ChecklistItem]:
    """Every `- [ ]` line of every runbook: pass, fail, or not measured and why. At most 40.

    A check that several runbooks ask for appears once, with the line of the baseline runbook if it
    is among them, else of the first.
    """
    items: list[ChecklistItem] = []
    done: set[str] = set()
    for book in sorted(runbooks, key=lambda book: book.id != BASELINE):
        for line in checklist_of(book.body):
            name = check_for(book, line)
            if (name or line.text) in done:
                continue
            done.add(name or line.text)
            items.append(_item(book.id, printable(line.text, LONGEST_ITEM), name, evidence))
            if len(items) >= MOST_ITEMS:
                return items
    return items


def check_for(book: Runbook, line: ChecklistLine) -> str | None:
    """Name of the check: the line's own, else that of the front matter whose words it contains."""
    text = line.text.casefold()
    listed = (c.check for c in book.front.checklist if c.item.casefold() in text)
    return line.check or next(listed, None)


def _item(runbook: str, text: str, name: str | None, evidence: Sequence[Evidence]) -> ChecklistItem:
    check = CHECKS.get(name or "")
    if check is None:
        because = "no check is assigned to this line: a person has to look"
        return ChecklistItem(runbook=runbook, text=text, result="not_measured", because=because)
    look = Look(evidence)
    try:
        result, because = check(look)
    except Unmeasured as why:
        return ChecklistItem(
            runbook=runbook,
            text=text,
            result="not_measured",
            because=str(why),
            evidence=look.used,
        )
    return ChecklistItem(
        runbook=runbook, text=text, result=result, because=because, evidence=look.used
    )
