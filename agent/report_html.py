"""The post-incident report as one HTML page: no script, nothing from elsewhere.

Every text is made printable and escaped by the template's engine, wherever it comes from; what is
drawn is drawn of numbers that code has computed.
"""

import base64
import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from agent import report
from agent.arbitration import told, without_answer
from agent.budget import cost
from agent.effects import HEIGHT, WIDTH, effects
from agent.facts import printed
from agent.incident import Incident
from agent.report_timeline import Happened
from tools.reading import printable

LONGEST_NAME = 200
"""Characters of a heading."""
_TEMPLATE = "report.html.j2"


def render_page(incident: Incident, verdicts: report.Verdicts = (), events: Happened = ()) -> str:
    """The whole report, as HTML."""
    page = _environment().get_template(_TEMPLATE)
    return page.render(
        incident=incident,
        timeline=report.timeline(incident, str, events),
        effects=effects(incident.plan.actions),
        follow_ups=list(report.follow_ups(incident)),
        verdicts=verdicts,
        width=WIDTH,
        height=HEIGHT,
    )


@cache
def content_security_policy() -> str:
    """What the page needs: its own style, and nothing else."""
    style = re.search(r"<style>(.*?)</style>", _source(), re.DOTALL)
    digest = hashlib.sha256((style[1] if style else "").encode()).digest()
    allowed = base64.b64encode(digest).decode("ascii")
    return (
        f"default-src 'none'; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _source() -> str:
    return (Path(__file__).parent / _TEMPLATE).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return page_environment(Path(__file__).parent)


def page_environment(folder: Path) -> Environment:
    """Of templates in which every text is made harmless, and then escaped."""
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,  # templates of the next version are for its code
    )
    functions: dict[str, Callable[..., Any]] = {
        "told": told, "without_answer": without_answer, "cost": cost, "printed": printed,
        "values": report.values,
        "short": report.short, "quieted": report.quieted, "unchanged": report.unchanged,
        "signals": report.signals,
    }  # fmt: skip
    environment.globals.update(functions)
    environment.filters["at"] = lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}"
    environment.filters["iso"] = lambda moment: moment.isoformat(timespec="seconds")
    environment.filters["name"] = lambda text: printable(" ".join(text.split()), LONGEST_NAME)
    environment.filters["words"] = lambda text: str(text).replace("_", " ")
    return environment


def _harmless(value: Any) -> Any:
    """No control characters, no turned writing direction, no flood; escaping comes after."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(" ".join(value.split()), report.LONGEST_TEXT)
    return value
