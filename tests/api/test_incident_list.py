"""What burns, on a terminal and in a pipe; one incident with its memory."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import httpx2
import pytest
from rich.cells import cell_len
from rich.console import Console
from starlette.testclient import TestClient

from agent.incident import Diagnosis, Incident, Plan
from api.app import create_app
from api.cli import incident_list, memory_bar
from api.settings import Settings
from api.store import samples
from api.store.target_tables import SampleRow
from tests.api.at_a_terminal import Shell, said
from tests.api.serving import as_role
from tests.api.test_actions import action

NOW = datetime(2026, 11, 30, 3, 0, tzinfo=UTC)
ID = "inc-01a22c3491cec15e9671"
READING = {
    "used_memory": 50 * 2**20, "counted_memory": 48 * 2**20, "limit": 60 * 2**20, "pressure": 0.8,
    "used_memory_rss": 70 * 2**20, "limit_source": "maxmemory",
    "used_memory_overhead": 10 * 2**20, "used_memory_startup": 1 * 2**20,
    "used_memory_peak": {"not_measured": "INFO memory", "because": "it is hidden"},
}  # fmt: skip


@pytest.fixture
def shell(settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    application = create_app(settings(), worker=False)
    with TestClient(application, base_url="http://127.0.0.1") as client:
        client._transport.app = application  # type: ignore[attr-defined]
        yield Shell(client, monkeypatch)


def burning(status: str, **changes: Any) -> Incident:
    values: dict[str, Any] = {
        "id": ID, "severity": "warning", "title": "t", "target": "cache-eu",
        "opened_at": NOW - timedelta(minutes=12, seconds=40), "updated_at": NOW,
    }  # fmt: skip
    return Incident(status=status, **values | changes)


def drawn(found: list[Incident], width: int) -> list[str]:
    out = Console(file=StringIO(), width=width, color_system=None)
    out.print(incident_list.table(found, NOW, out))
    return [line.rstrip() for line in out.file.getvalue().splitlines()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [40, 64, 80, 130])
def test_a_row_holds_everything_at_every_width(width: int) -> None:
    cause = Diagnosis(
        root_cause="replica-output-buffer", title="t", is_incident=True, confidence=0.9, summary="s"
    )
    names = ["\u05d0\u05d1\u05d2" * 9, "\U0001f525" * 40, "cache-eu"]
    quiet = {"silenced_until": NOW + timedelta(days=1), "diagnosis": cause}
    found = [burning("awaiting_approval", target=name, **quiet) for name in names]
    lines = drawn(found, width)
    assert max(map(cell_len, lines)) <= width
    assert sum(ID in line for line in lines) == 3, "whole, to be copied"
    text = "".join(lines).replace(" ", "")
    for expected in ("12min", "replica-output-buffer", "adecision", "3foraperson",
                     "silenceduntil"):  # fmt: skip
        assert expected in text
    assert text.count(names[1][0]) == 40


@pytest.mark.parametrize(
    ("status", "actions", "waits"),
    [
        ("queued", [], "a worker"),
        ("investigating", [], "investigating 12 min"),
        ("needs_human", [], "a person"),
        ("awaiting_approval", [action("R0", executable=False), action("R1", id="A2")],
         "approval of A2 (R1)"),
        ("awaiting_approval", [action("R3", approvals_required=2), action("R1", id="A2")],
         "approval of A1 (R3), 0 of 2 and 1 more"),
        ("awaiting_approval", [action("R1", status="approved")], "a worker, for A1"),
        ("remediating", [action("R1", status="verified"), action("R1", id="A2", status="applying")],
         "A2 is being applied"),
        ("closed", [], "closed"),
    ],
)  # fmt: skip
def test_what_an_incident_waits_for(status: str, actions: list[Any], waits: str) -> None:
    assert incident_list.waiting(burning(status, plan=Plan(actions=actions)), NOW) == waits


def test_a_pipe_gets_stable_lines_and_a_terminal_what_burns_first(shell: Shell) -> None:
    first, second = shell.opens("cache-eu"), shell.opens("cache-us")
    shell.post(f"/v1/incidents/{second}/close", {})
    for forced in ({}, {"FORCE_COLOR": "1"}):
        assert shell.says("incidents", **forced).stdout.splitlines() == [
            f"{second}  closed            cache-us",
            f"{first}  queued            cache-eu",
        ]
    for words in (["--open"], ["--target", "cache-eu"], ["--status", "queued"]):
        assert shell.says("incidents", *words).stdout.split()[0] == first
    assert json.loads(shell.says("incidents", "--json").stdout)["items"][0]["id"] == second
    shell.watched = True
    shown = shell.says("incidents").stdout
    assert shown.startswith("1 open; 1 over")
    assert shown.index(first) < shown.index(second)
    for wrong in (["--open", "--status", "queued"], [first, "--open"], ["--watch", "--json"]):
        assert shell.says("incidents", *wrong).exit_code == 2
    shell.watched = False
    assert shell.says("incidents", "--watch").exit_code == 2


def test_watching_goes_on_while_the_service_is_away(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    incident = shell.opens()
    shell.watched, waits = True, []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            monkeypatch.setattr("api.cli.client.httpx2.request", away)
        if len(waits) == 3:
            raise KeyboardInterrupt

    def away(*_: Any, **__: Any) -> Any:
        raise httpx2.ConnectError("gone")

    monkeypatch.setattr("api.cli.incident_list.time.sleep", sleep)
    watched = shell.says("incidents", "--watch", FORCE_COLOR="1")
    assert watched.exit_code == 130
    assert waits == [2.0, 4.0, 8.0]
    last = watched.stdout[watched.stdout.rindex("1 open") :]
    assert incident in last, "what was known stays"
    assert "it is tried again" in last


def test_what_is_refused_says_what_helps(shell: Shell) -> None:
    shell.role = "roc_wrong"
    for watched in (False, True):
        shell.watched = watched
        refused = shell.says("incidents")
        assert refused.exit_code == 1
        assert "REDIS_ONCALL_TOKEN" in said(refused)
        assert "redis-oncall token" in said(refused)
    shell.role = "admin"
    shell.asked.clear()
    for words in (["show", "../healthz"], ["show", ".."], ["tail", "x/events"], ["show", ""]):
        refused = shell.says(*words)
        assert refused.exit_code == 2
        assert "there is no such id" in said(refused)
    assert shell.asked == []


@pytest.mark.parametrize("answer", [b"<html>sign in</html>", b"[]", b'{"items": [{"new": 1}]}'])
def test_what_is_not_our_service_is_said_to_be_another(
    shell: Shell, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = httpx2.Response(200, content=answer)
    monkeypatch.setattr("api.cli.client.httpx2.request", lambda *_, **__: strange)
    shell.watched = True
    for words in (["incidents"], ["show", "x"], ["tail"], ["tail", "x"], ["approve", "x", "A1"]):
        refused = shell.says(*words)
        assert refused.exit_code == 1, words
        assert "is not redis-oncall, or of another version" in said(refused), words


def test_a_token_or_an_address_that_none_can_be_is_not_used(shell: Shell) -> None:
    for token in ("roc_x\n", "roc_\u00e9"):
        shell.role = token
        refused = shell.says("incidents")
        assert refused.exit_code == 2
        assert "REDIS_ONCALL_TOKEN" in said(refused)
    shell.role = "admin"
    for url in ("oncall.example", "http://[::1", "http://"):
        for command in ("incidents", "mcp", "tail"):
            refused = shell.says(command, REDIS_ONCALL_URL=url)
            assert refused.exit_code == 2, (url, command)
            assert "REDIS_ONCALL_URL: an address is expected" in said(refused)
    assert shell.asked == []


def test_one_incident_is_shown_with_its_memory(shell: Shell) -> None:
    incident = shell.opens()

    async def look(journal: Any) -> None:
        for node, reading in (("a:1 \x1b[31m", READING), ("b:2", {"because": "gone"})):
            await journal.add_evidence("memory_info", {}, reading, measured=True, node=node,
                                       summary="s")  # fmt: skip

    shell.keeps(incident, look)
    shown = shell.says("show", incident)
    # Between the two a second may begin.
    both = [shown.stdout, shell.says("incidents", incident).stdout]
    assert len({re.sub(r"began \d+ \w+ ago", "", text) for text in both}) == 1
    assert "\x1b" not in shown.stdout
    for expected in ("48.0 MiB of 60.0 MiB (maxmemory)", " 80.0 %", "▲75%", "used 50.0 MiB",
                     "resident 70.0 MiB", "share of the limit not measured: gone",
                     "warning, began "):  # fmt: skip
        assert expected in shown.stdout
    assert "peak" not in shown.stdout
    assert max(map(cell_len, shown.stdout.splitlines())) <= 80
    shell.columns = 40
    assert max(map(cell_len, shell.says("show", incident).stdout.splitlines())) <= 40


def test_the_targets_last_day_is_a_curve(shell: Shell) -> None:
    incident = shell.opens()
    quiet = shell.says("show", incident).stdout
    path = "/v1/targets/cache-eu/memory"
    assert shell.client.get(path, headers=as_role("viewer")).json()["samples"] == []
    now = datetime.now(UTC)

    async def sampled(journal: Any) -> None:
        async with journal._database.writing() as session:
            for minutes, used in ((2_000, 70), (600, 10), (300, 20), (0, 40)):
                at = now - timedelta(minutes=minutes)
                row = SampleRow(target="cache-eu", at=at, used_bytes=used << 20)
                await samples.keep(session, row)

    shell.keeps(incident, sampled)
    shown = shell.says("show", incident).stdout
    assert re.search(r"▃·*▅·*█  10\.0 MiB at", shown)
    assert "40.0 MiB at" in shown
    assert "MiB at" not in quiet
    assert "70" not in shown.split("█  ")[1]  # older than a day
    assert shell.client.get("/v1/targets/none/memory", headers=as_role("viewer")).status_code == 404


def test_a_curve_is_from_zero_up_and_as_wide_as_there_is_room() -> None:
    rising = [(NOW + timedelta(minutes=n), n << 20) for n in range(1, 200)]
    for columns in (40, 60, 200):
        text = memory_bar.trend(rising, columns)
        assert text is not None
        marks = text.plain.partition("  ")[0]
        assert len(marks) <= max(2, min(40, columns - 40))
        assert marks == "".join(sorted(marks))
        assert marks[-1] == "█"
        assert columns == 40 or marks[0] == "▁"
    plain = memory_bar.trend(rising, 80, ascii_only=True)
    assert plain is not None
    assert plain.plain.isascii()
    assert memory_bar.trend(rising[:1], 80) is None
    assert memory_bar.trend([(NOW, 0), (NOW, 0)], 80) is not None


def test_where_the_bytes_are_adds_up_and_no_name_breaks_it(shell: Shell) -> None:
    incident = shell.opens()
    names = [
        "\u05d0\u05d1:",
        "\U0001f525" * 30,
        "[red]x\x1b[31m\u202e:",
        *(f"p{n}:" for n in range(9)),
    ]
    rows = [{"prefix": name, "bytes": (20 - n) * 2**18, "keys": 5, "types": ["string"]}
            for n, name in enumerate(names)]  # fmt: skip
    walk = {"prefixes": rows, "bytes_seen": 40 * 2**20, "complete": True, "keys_seen": 60}

    async def look(journal: Any) -> None:
        for tool, reading in (("memory_info", READING), ("bigkeys", walk)):
            await journal.add_evidence(tool, {}, reading, measured=True, node="a:1", summary="s")

    shell.keeps(incident, look)
    for columns in (80, 40):
        shell.columns = columns
        shown = shell.says("show", incident).stdout
        assert max(map(cell_len, shown.splitlines())) <= columns
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    shell.columns = 80
    shown = shell.says("show", incident).stdout
    assert r"[red]x\x1b[31m\u202e:" in shown
    shares = re.findall(r"^ +([\d.]+) (MiB|KiB|bytes) +([\d.]+) %  █", shown, re.MULTILINE)
    assert abs(sum(float(share) for *_, share in shares) - 100) < 1
    assert sum(float(size) for size, unit, _ in shares if unit == "MiB") == pytest.approx(50, abs=1)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.74, 0.8, 1.0, 7.5])
def test_the_bar_is_as_full_as_the_memory(share: float) -> None:
    for ascii_only in (False, True):
        text = memory_bar.bar(share, 40, ascii_only=ascii_only).plain
        inside = text[1 : text.index("]")]
        assert len(inside) == 40
        assert abs(len(inside.rstrip(" |")) - 40 * min(share, 1)) <= 1
        assert text.isascii() == ascii_only or not inside.strip(" |")
        marks = [at for at in (30, 34) if inside[at] == "|"]
        assert marks == [at for at in (30, 34) if at >= 40 * share]
