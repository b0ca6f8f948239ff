"""A runbook's Markdown as HTML of ours. Pure.

Whoever writes a team's runbooks is trusted with advice, not with this page: no HTML, no images, no
style, links to `http` and `https` and to other runbooks only. What is left of anything else is its
text.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

_COMMENT = re.compile(r"[ \t]*<!--.*?-->")
_BOX = re.compile(r"\[[ xX]\][ \t]+")
_NO_WORD = re.compile(r"[^\w]+")
_RUNBOOK = re.compile(r"(?:\./)?([^/?#]{1,100}?)(?:\.md)?(?:#.{0,200})?")
DEEPEST = 6


@dataclass(frozen=True)
class Section:
    """A heading, and where it is."""

    title: str
    anchor: str
    level: int


@dataclass(frozen=True)
class Rendered:
    """The body of a runbook."""

    html: Markup
    sections: Sequence[Section]


def anchor_of(section: str) -> str:
    """The address within its page of a section as search names it: `Symptoms`, or `Root Cause
    Analysis, 1. Length and groups`.
    """  # noqa: D205
    words = _NO_WORD.sub("-", section.casefold()).strip("-")
    return f"section-{words[:120] or 'without-name'}"


@lru_cache(maxsize=128)
def rendered(body: str, title: str, known: frozenset[str] = frozenset()) -> Rendered:
    """The body as HTML, its headings from the second level on. `known`: ids of runbooks.

    Its first heading is left out where it says no more than `title`. Of the largest file that is
    loaded it takes up to some seconds (nothing but open brackets): call it in a thread.
    """
    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = reader.parse(body)
    tokens = tokens[_repeats(tokens, title) :]
    sections = list(_headed(tokens))
    for place, token in enumerate(tokens):
        _made_harmless(token, known, place)
    return Rendered(Markup(reader.renderer.render(tokens, reader.options, {})), sections)  # noqa: S704


def _repeats(tokens: Sequence[Token], title: str) -> int:
    """How many tokens the first heading has, if it repeats the title."""
    if len(tokens) < 3 or tokens[0].type != "heading_open":
        return 0
    return 3 if tokens[1].content.strip().casefold() == title.strip().casefold() else 0


def _headed(tokens: Sequence[Token]) -> Iterator[Section]:
    """Give each heading its level on our page, and its anchor."""
    first = any(token.type == "heading_open" and token.tag == "h1" for token in tokens)
    level, above, used = 1, "", set[str]()
    for place, token in enumerate(tokens):
        if token.type != "heading_open":
            continue
        written = int(token.tag[1])
        # No level is left out on the way down: who listens to the page would look for it.
        level = max(2, min(written + first, level + 1, DEEPEST))
        text = _COMMENT.sub("", tokens[place + 1].content).strip()
        if written == 2:
            above = text
        name = f"{above}, {text}" if written > 2 and above else text
        anchor, number = anchor_of(name), 2
        while anchor in used:
            anchor, number = f"{anchor_of(name)}-{number}", number + 1
        used.add(anchor)
        token.tag = tokens[place + 2].tag = f"h{level}"
        token.attrs = {"id": anchor}
        yield Section(text, anchor, level)


_FENCE = Markup('<pre tabindex="0" aria-label="Commands"><code>{}</code></pre>\n')
_TABLE = '<div class="scroll" tabindex="0" role="region" aria-label="Table {}"><table>\n'


def _made_harmless(token: Token, known: Collection[str], place: int) -> None:
    """What a token may say besides its text is decided here, and nowhere else."""
    if token.type in ("fence", "code_block"):
        token.type, token.content = "html_block", str(_FENCE.format(token.content))
    elif token.type == "table_open":
        token.type, token.content = "html_block", _TABLE.format(place)
    elif token.type == "table_close":
        token.type, token.content = "html_block", "</table></div>\n"
    elif token.type in ("th_open", "td_open"):
        right = "right" in str(token.attrs.get("style", ""))  # which the page's policy forbids
        token.attrs = {}
        if token.tag == "th":
            token.attrs["scope"] = "col"
        if right:
            token.attrs["class"] = "n"
    elif token.type == "ordered_list_open":
        token.attrs = {name: at for name, at in token.attrs.items() if name == "start"}
    elif token.type != "heading_open":
        token.attrs = {}
    if token.children:
        token.children = list(_inline(token.children, known))


def _inline(tokens: Sequence[Token], known: Collection[str]) -> Iterator[Token]:
    closes: list[bool] = []
    for place, token in enumerate(tokens):
        if token.type == "link_open":
            address = _address(str(token.attrs.get("href", "")), known)
            closes.append(bool(address))
            token.attrs = {"href": address}
            if address.startswith("http"):
                token.attrs["rel"] = "noreferrer noopener"
            if not address:
                continue
        elif token.type == "link_close":
            if not closes.pop():
                continue
        else:
            token.attrs = {}
        if token.type == "text":
            token.content = _COMMENT.sub("", token.content)
            if place == 0 and (box := _BOX.match(token.content)):
                token.content = f"☐ {token.content[box.end() :]}"
        yield token


def _address(href: str, known: Collection[str]) -> str:
    """Where a link may lead; empty: nowhere."""
    try:
        parts = urlsplit(href)
    except ValueError:
        return ""
    if parts.scheme in ("http", "https") and parts.hostname:
        return href
    found = _RUNBOOK.fullmatch(href)
    return f"/runbooks/{quote(found[1], safe='')}" if found and found[1] in known else ""
