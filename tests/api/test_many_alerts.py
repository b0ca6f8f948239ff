"""An incident with any number of alerts stays as small as one with many."""

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert

from agent.report import render_report
from api.store import incidents
from api.store.database import Database
from api.store.tables import AlertRow

NOW = datetime.now(UTC)


async def with_alerts(database: Database, number: int) -> str:
    async with database.writing() as session:
        row = await incidents.open_incident(session, title="t", target=f"cache-{number}")
        values = [
            {
                "incident_id": row.id, "source": "generic", "fingerprint": f"{number}-{each}",
                "name": f"A{each}", "status": "firing", "severity": "warning", "labels": {},
                "annotations": {}, "starts_at": NOW, "received_at": NOW, "target": "", "flaps": 0,
            }
            for each in range(number)
        ]  # fmt: skip
        await session.flush()
        if values:
            await session.execute(insert(AlertRow), values)
    return row.id


async def test_the_first_and_the_newest_are_shown_and_the_others_counted(
    database: Database,
) -> None:
    most, listed = incidents.MOST_ALERTS, incidents.MOST_LISTED
    told = Path("api/README.md").read_text()
    assert f"its newest {most - 1} (in lists {listed - 1})" in told
    many = await with_alerts(database, 5 * most)
    few = await with_alerts(database, most)
    none = await with_alerts(database, 0)
    async with database.reading() as session:
        shown = await incidents.load(session, many)
        whole = await incidents.load(session, few)
        page = {one.id: one for one in await incidents.page(session)}
    newest = [f"A{each}" for each in range(4 * most + 1, 5 * most)]
    assert [alert.name for alert in shown.alerts] == ["A0", *newest]
    assert shown.more_alerts == 4 * most
    assert f"- Alerts: {5 * most:,}; below are the first and the newest" in render_report(shown)
    assert [alert.name for alert in whole.alerts] == [f"A{each}" for each in range(most)]
    assert whole.more_alerts == 0
    assert "- Alerts:" not in render_report(whole)
    assert [alert.name for alert in page[many].alerts] == ["A0", *newest[1 - listed :]]
    assert page[many].more_alerts == 5 * most - listed
    assert (page[none].alerts, page[none].more_alerts) == ([], 0)
