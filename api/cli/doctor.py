"""`doctor`: what is configured, what is reachable, what is missing."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from agent.budget import money
from agent.context import Target
from api.cli import render
from api.cli.finding import Finding
from api.cli.oneshot import settings_or_exit
from api.config import TokenEntry
from api.settings import Settings, SettingsError
from api.source_config import SourceEntry
from tools.connection import display_url
from tools.reading import printable

if TYPE_CHECKING:
    from api.store.database import Database
    from tools.connection import Connection
    from tools.host import HostFacts

T = TypeVar("T")
SOON = timedelta(days=14)
"""A token that expires within this time is worth a warning."""
_STYLE = {"ok": "green", "warning": "yellow", "missing": "red"}


def run(*, as_json: bool) -> None:
    """Examine and print; exit 0 also when something is missing: that is the answer."""
    findings = asyncio.run(_examine(settings_or_exit()))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        return
    table = Table.grid(padding=(0, 1))
    table.add_column(width=8)
    table.add_column(width=20, overflow="fold")
    table.add_column(overflow="fold")
    for f in findings:
        table.add_row(Text(f.state, style=_STYLE[f.state]), Text(f.what), Text(f.says))
    render.console().print(table)


async def _examine(settings: Settings) -> list[Finding]:
    from api.cli import reached

    database = await reached.database_of(settings)
    answers = database.state == "ok"
    tried = [database, await reached.queue_of(settings)]
    tried.append(await reached.key_of(settings, database_answers=answers))
    findings = _configuration(settings) + tried + sources_of(settings) + _runbooks(settings)
    targets = settings.agent_targets()
    if not targets:
        findings.append(
            Finding("targets", "missing", "none configured: alerts cannot be mapped to a server")
        )
    for answer in await asyncio.gather(*(_target(target) for target in targets)):
        findings += answer
    findings += await _trends(settings)
    findings.append(await _model(settings))
    findings += await _messages(settings, database_answers=answers)
    findings += await _durability(settings, database_answers=answers)
    return findings


def _configuration(settings: Settings) -> list[Finding]:
    tokens, frozen = len(settings.tokens), len(settings.config.freezes)
    return [
        *_expiries(settings, datetime.now(UTC)),
        *(
            Finding("secrets", "warning", f"{path}: every user here may read it; chmod o-r")
            for path in settings.exposed
        ),
        Finding("configuration", "ok", settings.config_path or "none (REDIS_ONCALL_CONFIG unset)"),
        Finding("tokens", "ok", f"{tokens} configured")
        if tokens
        else Finding("tokens", "warning", "none: the service listens on loopback only"),
        Finding("mode", "warning", "dry run: whatever is approved, nothing is written")
        if settings.policy.dry_run
        else Finding("mode", "ok", "live: what is approved is applied"),
        Finding("freezes", "ok", f"{frozen} configured"),
    ]


def sources_of(settings: Settings) -> list[Finding]:
    """Who sends alerts, and how that is proven."""
    found = [Finding(f"source {one.name}", "ok", one.shown) for one in settings.sources]
    anybody = [one.name for one in settings.tokens if one.role == "source"]
    found += [Finding(f"source {name}", "ok", "any alerts, bearer token") for name in anybody]
    if not found and settings.tokens:
        says = "none: only people's tokens may post alerts; add `sources:`"
        found.append(Finding("sources", "warning", says))
    return found


def _expiries(settings: Settings, now: datetime) -> list[Finding]:
    """What opens the door no more, or not for long."""
    found = []
    entries: list[TokenEntry | SourceEntry] = [*settings.tokens, *settings.sources]
    for entry in entries:
        if entry.expires is None or entry.expires > now + SOON:
            continue
        day = f"{entry.expires.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        says = f"expired {day}; remove it" if entry.expires <= now else f"expires {day}"
        found.append(Finding(f"token {entry.name}", "warning", f"{says}; `redis-oncall token`"))
    return found


def _runbooks(settings: Settings) -> list[Finding]:
    from agent.runbook_library import load_library

    library = load_library(settings.runbooks)
    problems = [Finding("runbooks", "warning", str(problem)) for problem in library.problems]
    return [Finding("runbooks", "ok", f"{len(library.runbooks)} loaded"), *problems]


async def _target(target: Target) -> list[Finding]:
    from agent.reaching import open_target
    from tools.connection import CommandFailure, read_info
    from tools.provider import provider_of
    from tools.reads import READS

    name = f"target {target.name}"
    connection = await open_target(target)
    try:
        info = await read_info(connection, "server")
    except CommandFailure as failure:
        await connection.close()
        return [Finding(name, "missing", f"{failure} {failure.remedy}")]
    version = info.get("valkey_version") or info.get("redis_version", "?")
    at = f" at {provider}" if (provider := provider_of(connection.node)) else ""
    findings = [Finding(name, "ok", f"{connection.node}, version {version}{at}")]
    quick = {"memory_info", "config_get", "clients", "slowlog", "latency_latest", "acl_log"}
    for tool in sorted(quick & set(READS)):
        reading = await READS[tool].call(connection, {})
        if (because := getattr(reading, "because", None)) is not None:
            findings.append(Finding(name, "warning", f"{tool}: {because}"))
    if target.has_several_nodes:
        findings += await _nodes(name, target, connection)
    await connection.close()
    if target.remedy_url is None:
        findings.append(
            Finding(name, "warning", "no remedy_url: nothing can be applied, only proposed")
        )
    findings.append(
        Finding(
            name,
            "ok",
            "CONFIG GET cannot be restricted by parameter; redis-oncall asks an allow-list only",
        )
    )
    return findings


async def _nodes(name: str, target: Target, connection: "Connection") -> list[Finding]:
    from tools.connection import CommandFailure
    from tools.nodes import Nodes
    from tools.reading import NotMeasured
    from tools.reads import READS
    from tools.replicas import Walker
    from tools.summaries import summarize

    seen = await READS["nodes"].call(connection, {})
    found = [Finding(name, "ok" if isinstance(seen, Nodes) else "warning", summarize(seen))]
    found += [
        Finding(name, "warning", f"{row.node}: {row.numbers.because}")
        for row in (seen.rows if isinstance(seen, Nodes) else ())
        if isinstance(row.numbers, NotMeasured)
    ]
    try:
        node = await Walker(connection, target.walk_on).connection_for(READS["bigkeys"])
        found.append(Finding(name, "ok", f"walks over the keyspace go to {node.node}"))
    except CommandFailure as failure:
        found.append(Finding(name, "warning", f"{failure}; {failure.remedy}"))
    return found


async def _trends(settings: Settings) -> list[Finding]:
    """Where the growth of memory is known from, and which targets can be resized."""
    from api import prometheus
    from api.prometheus_host import facts
    from api.resize_hook import resize_hook_of
    from tools.sizes import read_catalogue

    watch, asked = settings.config.watch, settings.config.prometheus
    minutes = watch.every.total_seconds() / 60
    kept = f"memory every {minutes:.0f} min, kept for {watch.keep.days} days"
    findings = [Finding("watch", "ok", kept if watch.enabled else "off: no trends")]
    findings.append(_thresholds(settings))
    for entry in settings.config.targets:
        if asked is not None:
            found = await prometheus.history(asked, entry.series or entry.match)
            says = f"{entry.name}: {len(found.samples)} samples"
            state: Literal["ok", "warning"] = "ok" if found.samples else "warning"
            findings.append(Finding("prometheus", state, found.because or says))
            findings += _host_facts(entry.name, await facts(asked, entry))
        if (hook := resize_hook_of(settings, entry.name)) is not None:
            undo = "can undo" if hook.undoes else "cannot undo"
            findings.append(Finding(f"target {entry.name}", "ok", f"resize {hook.shown}, {undo}"))
    if settings.config.sizes is not None:
        own = read_catalogue(str(settings.config.sizes))
        because = getattr(own, "because", None)
        findings.append(Finding("sizes", "missing" if because else "ok", because or "read"))
    return findings


def _host_facts(target: str, facts: "HostFacts") -> list[Finding]:
    """What Prometheus has of a target's host and container, where they are configured."""
    findings = []
    for setting, part in (("host_series", facts.host), ("container_series", facts.container)):
        if part is None:
            continue
        says = f"{target}: {len({one.metric for one in part.series})} metrics of {setting}"
        state: Literal["ok", "warning"] = "warning" if part.because else "ok"
        because = f"; {part.because}" if part.because else ""
        findings.append(Finding("prometheus", state, says + because))
    return findings


def _thresholds(settings: Settings) -> Finding:
    """Which of the runbooks' own alerts `watch` raises."""
    from agent.runbook_library import load_library
    from api.thresholds import rules

    config = settings.config
    if not config.watches_thresholds:
        because = "watch.alerts is off" if config.watch.alerts is False else "sources send alerts"
        return Finding("thresholds", "ok", f"raise no alerts here: {because}")
    known = rules(load_library(settings.runbooks), config.watch)
    left = [rule for rule in known if rule.because]
    names = ", ".join(sorted({rule.threshold.when for rule in left}))
    says = f"{len(known) - len(left)} of the runbooks' alerts are watched; not watched: {names}"
    skipped = ", ".join(config.watch.skip_targets)
    return Finding("thresholds", "ok", says + (f"; none on {skipped}" if skipped else ""))


async def _model(settings: Settings) -> Finding:
    from api.cli.reached import model_answers

    if not settings.openai_model:
        return Finding("model", "ok", "none (OPENAI_MODEL unset): the rules do the whole job")
    url = settings.openai_base_url.partition("?")[0]
    where = display_url(url) if url else "the provider's default endpoint"
    told = settings.config.model
    price = told.prices.get(settings.openai_model)
    cost = f"price of {price.date} from {printable(price.source, 80)}" if price else "no price"
    day = told.per_day
    dollars = f", {money(day.dollars)}" if day.dollars is not None else ""
    caps = f"a day may cost {day.calls:,} calls, {day.tokens:,} tokens{dollars}"
    works, says = await model_answers(settings)
    state: Literal["ok", "missing"] = "ok" if works else "missing"
    return Finding("model", state, f"{settings.openai_model} at {where} {says}; {cost}; {caps}")


async def _messages(settings: Settings, *, database_answers: bool) -> list[Finding]:
    """Who is called, who is told, and what did not arrive."""
    from api.notifications import Notifier, kept

    try:
        notifier = Notifier(settings)
    except SettingsError as error:
        return [Finding("messages", "missing", str(error))]
    left = (await _ask_database(settings, kept) if database_answers else None) or {}
    nobody = {
        "pages": "nobody is called: they are lines in the log only; set pages.to",
        "notices": "nobody is told what becomes of incidents; see notifications in api/README.md",
    }
    findings = []
    for name, addresses in (("pages", notifier.paged), ("notices", notifier.told)):
        says = f"to {', '.join(one.service for one in addresses)}" if addresses else nobody[name]
        missed = _missed(left.get(name, {}))
        fine = not missed and (addresses or name == "notices")
        says += f"; {missed}" if missed else ""
        if name == "notices" and addresses and not settings.config.http.url:
            says += "; without http.url they name commands and have no links"
        findings.append(Finding(name, "ok" if fine else "warning", says))
    return findings


def _missed(kept: dict[str, int]) -> str:
    """Those that did not arrive."""
    words = {"waiting": "waiting", "given_up": "given up after the last try"}
    return ", ".join(f"{kept[name]} {said}" for name, said in words.items() if kept.get(name))


async def _durability(settings: Settings, *, database_answers: bool) -> list[Finding]:
    """Whether the database keeps what it commits, and how long what is over is kept."""
    from api.store.durability import weaknesses

    found = await _ask_database(settings, weaknesses) if database_answers else None
    kept = settings.config.retention
    judged = "for ever" if kept.judged is None else f"{kept.judged.days} days"
    ages = f"what is over is kept {kept.incidents.days} days, with a verdict {judged}"
    return [
        *(Finding("durability", "warning", says) for says in found or ()),
        Finding("retention", "ok", ages),
    ]


async def _ask_database(settings: Settings, what: "Callable[[Database], Awaitable[T]]") -> T | None:
    """None where the tables are not there yet, or it does not answer any more."""
    from api.cli.reached import ask
    from api.unusable import FAILURES

    try:
        return await ask(settings, what)
    except (TimeoutError, *FAILURES):
        return None
