"""Pages of runbooks: what we know, and which incidents it was used for."""

import asyncio
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse

from agent.runbook import ProposedRemedy, Runbook
from agent.runbook_library import PACKAGED
from api.catalogues import thresholds_shown
from api.console.markdown import rendered
from api.console.pages import page
from api.console.sessions import Visiting
from api.problems import Problem
from api.service import Service
from api.store.runbook_uses import MOST_LOOKED_THROUGH, uses, without_evidence
from api.thresholds import rules
from tools.remedies.catalogue import REMEDIES

MOST_USES = 20
router = APIRouter(include_in_schema=False)
On = Annotated[Service, Depends(Service.of)]


@router.get("/runbooks")
async def list_page(
    service: On, visitor: Visiting, words: Annotated[str, Query(max_length=200)] = ""
) -> HTMLResponse:
    """All of them, those most used first."""
    async with service.database.reading() as session:
        used = await uses(session, _knows(service))
    wanted = words.casefold().split()
    books = [book for book in service.library.runbooks if _is_about(book, wanted)]
    return page(
        "runbooks",
        visitor,
        books=sorted(books, key=lambda book: (-len(used.get(book.id, ())), book.front.title)),
        all_of_them=len(service.library.runbooks),
        used={name: len(ids) for name, ids in used.items()},
        looked_through=MOST_LOOKED_THROUGH,
        problems=service.library.problems,
        words=words,
    )


def _knows(service: Service) -> dict[str, list[str]]:
    """By cause the runbooks that know it."""
    found: dict[str, list[str]] = {}
    for book in service.library.runbooks:
        for cause in book.front.causes:
            found.setdefault(cause.id, []).append(book.id)
    return found


def _is_about(book: Runbook, wanted: Sequence[str]) -> bool:
    front = book.front
    causes = (f"{cause.id} {cause.title}" for cause in front.causes)
    text = " ".join([front.id, front.title, *causes, *front.matches.alerts]).casefold()
    return all(word in text for word in wanted)


@dataclass(frozen=True)
class RemedyLine:
    """A remedy that a runbook proposes."""

    kind: str
    risk: str
    """Empty: no such remedy is known."""
    executable: bool
    says: str
    causes: Sequence[str]
    """For which; empty: any of the runbook's."""


def remedies_of(book: Runbook) -> list[RemedyLine]:
    """Each kind once, with the causes that it is for."""
    causes: dict[str, list[str]] = {}
    for kind, wanted in _proposed(book):
        causes.setdefault(kind, []).extend(one for one in wanted if one not in causes[kind])
    return [_line(kind, wanted) for kind, wanted in causes.items()]


def _proposed(book: Runbook) -> Iterator[tuple[str, list[str]]]:
    for cause in book.front.causes:
        for remedy in cause.remedies:
            yield remedy.kind if isinstance(remedy, ProposedRemedy) else remedy, [cause.id]
    for option in book.front.remedies:
        yield option.kind, option.for_causes


def _line(kind: str, causes: Sequence[str]) -> RemedyLine:
    remedy = REMEDIES.get(kind)
    if remedy is None:
        return RemedyLine(kind, "", executable=False, says="", causes=causes)
    says = (inspect.getdoc(remedy) or "").partition("\n\n")[0]
    return RemedyLine(kind, remedy.risk, remedy.executable, says, causes)


@router.get("/runbooks/{book_id:path}")
async def runbook_page(service: On, visitor: Visiting, book_id: str) -> HTMLResponse:
    """One of them."""
    book = next((one for one in service.library.runbooks if one.id == book_id), None)
    if book is None:
        raise Problem(404, "there is no such runbook")
    async with service.database.reading() as session:
        ids = (await uses(session, _knows(service))).get(book.id, [])
        used = await without_evidence(session, ids[:MOST_USES])
    known, path = frozenset(one.id for one in service.library.runbooks), Path(book.path)
    return page(
        "runbook",
        visitor,
        book=book,
        front=book.front,
        file="" if path.parent == PACKAGED else path.name,
        watches="yes"
        if service.settings.config.watches_thresholds
        else "no: alerts come from elsewhere",
        body=await asyncio.to_thread(rendered, book.body, book.front.title, known),
        thresholds=thresholds_shown(rules(service.library, service.settings.config.watch), book.id),
        remedies=remedies_of(book),
        used=used,
        uses=len(ids),
        looked_through=MOST_LOOKED_THROUGH,
    )
