"""One seed on a running installation: alerts, blows, an approval, and quiet again."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx2
from sqlalchemy.exc import DBAPIError

from tests.api.test_alerts import firing, message
from tests.chaos import invariants
from tests.chaos.installation import ILL, Installation
from tests.chaos.plan import TARGETS, Blow, Plan

LOAD_SECONDS = 2.5
AGAIN_SECONDS = 0.5
"""A sender's pause after an answer that is no 202."""
SENT_WITHIN_SECONDS = 300.0
QUIET_WITHIN_SECONDS = 400.0
LOOK_SECONDS = 0.5
EXPECTED = {202, 503}
"""What a sender may be answered. Everything else is a fault of the service."""


@dataclass
class Result:
    """What came of one seed."""

    seed: int
    variant: str
    blows: list[str]
    kills: dict[str, int]
    """SIGKILLs that found a process, by its kind."""
    frozen: int
    """SIGSTOPs that did."""
    alerts: int
    """Accepted ones."""
    answers: dict[str, int]
    incidents: dict[str, int]
    """How many ended in which status."""
    continued: int
    """How often an investigation went on in another run, from the checkpoint of the last one."""
    approved: str
    """What became of the approved action; empty: none was approved."""
    ended_by_themselves: int
    seconds: float
    broken: list[str] = field(default_factory=list)
    """Invariants that did not hold; empty: all did."""


class Onslaught:
    """One round."""

    def __init__(self, installation: Installation, plan: Plan) -> None:
        self.on, self.plan = installation, plan
        self.chance = random.Random(f"load {plan.seed}")
        self.started = datetime.now(UTC)
        self.accepted: dict[str, set[str]] = {}
        """Fingerprint -> the incidents that any 202 for it named."""
        self.answers: dict[str, int] = {}
        self.broken: list[str] = []
        self.approved: tuple[str, str] | None = None
        self.approval = asyncio.Event()
        self.began, self.alone = time.monotonic(), installation.ended_by_themselves
        self.kills: Counter[str] = Counter()
        self.frozen = 0
        self.statuses: dict[str, int] = {}
        self.continued = 0
        self.ended = ""

    async def result(self) -> Result:
        """Carry it out and look."""
        plan = self.plan
        written = await asyncio.to_thread(self.on.fall_ill_again)
        blows = [asyncio.create_task(self._strike(blow)) for blow in plan.blows]
        approver = asyncio.create_task(self._approve())
        alerts = [self._alert(number) for number in range(plan.alerts)]
        # A highly available pair: everything comes twice, in another order.
        await asyncio.gather(*(self._send(alerts, pair) for pair in range(2)))
        if not plan.approves:
            self.approval.set()
        await approver
        await asyncio.gather(*blows)
        await self.on.ready()
        if unquiet := await self._quiet():
            self.broken.append(f"not quiet after {QUIET_WITHIN_SECONDS:.0f} s: {unquiet}")
        found = await invariants.look(self.on, self.started, self.accepted)
        self.broken += found.broken
        self.statuses, self.continued = found.statuses, found.continued
        times = await asyncio.to_thread(self.on.settings_written) - written
        self.broken += await self._applied_once(times)
        await self._close(found.open)
        if self.approved:
            self.ended = (await self._action())["status"]
        return self.told()

    def told(self) -> Result:
        """So far."""
        plan = self.plan
        return Result(
            plan.seed, plan.variant, [str(blow) for blow in plan.blows], dict(self.kills),
            self.frozen, len(self.accepted), self.answers,
            self.statuses, self.continued, self.ended,
            self.on.ended_by_themselves - self.alone, round(time.monotonic() - self.began, 1),
            self.broken,
        )  # fmt: skip

    def _alert(self, number: int) -> dict[str, Any]:
        target = self.chance.randrange(TARGETS) if number else 0  # the ill one has one at least
        labels = {"alertname": "RedisMemoryHigh", "instance": f"cache-{target}"}
        severity = self.chance.choice(["warning", "critical"])
        return firing(
            f"{self.plan.seed}-{number}",
            labels=labels | {"severity": severity},
            startsAt=self.started.isoformat().replace("+00:00", "Z"),
        )

    async def _send(self, alerts: list[dict[str, Any]], pair: int) -> None:
        chance = random.Random(f"{self.plan.seed} {pair}")
        order = chance.sample(alerts, len(alerts))
        async with asyncio.TaskGroup() as senders:
            while order:
                batch = [order.pop() for _ in range(min(len(order), chance.choice([1, 1, 2, 3])))]
                senders.create_task(self._until_accepted(batch, chance))

    async def _until_accepted(self, batch: list[dict[str, Any]], chance: random.Random) -> None:
        wait, url = chance.uniform(0, LOAD_SECONDS), chance.choice(self.on.urls)
        await asyncio.sleep(wait)
        deadline = time.monotonic() + SENT_WITHIN_SECONDS
        while time.monotonic() < deadline:
            answer = await self._post(f"{url}/v1/alerts/alertmanager", message(*batch))
            if answer is not None and answer.status_code == 202:
                ids = {one["id"] for one in answer.json()["incidents"]}
                for alert in batch:
                    self.accepted.setdefault(alert["fingerprint"], set()).update(ids)
                return
            await asyncio.sleep(AGAIN_SECONDS)
            url = self.on.urls[(self.on.urls.index(url) + 1) % len(self.on.urls)]
        self.broken.append(f"not accepted within {SENT_WITHIN_SECONDS:.0f} s")

    async def _post(self, url: str, body: Any) -> httpx2.Response | None:
        try:
            answer = await self.on.client.post(url, json=body)
        except httpx2.HTTPError as error:
            self._count(type(error).__name__)
            return None
        self._count(str(answer.status_code))
        if answer.status_code not in EXPECTED and "alerts" in url:
            self.broken.append(f"an alert was answered {answer.status_code}: {answer.text[:200]}")
        return answer

    def _count(self, answer: str) -> None:
        self.answers[answer] = self.answers.get(answer, 0) + 1

    async def _strike(self, blow: Blow) -> None:
        if blow.since == "approval":
            await self.approval.wait()
        await asyncio.sleep(blow.after)
        if not await self.on.struck(blow):
            return
        if blow.how == "frozen":
            self.frozen += 1
        else:
            self.kills[blow.kind] += 1

    async def _get(self, path: str) -> Any:
        """From whichever service answers."""
        while True:
            for url in self.on.urls:
                with contextlib.suppress(httpx2.HTTPError):
                    answer = await self.on.client.get(url + path)
                    if answer.is_success:
                        return answer.json()
            await asyncio.sleep(LOOK_SECONDS)

    async def _approve(self) -> None:
        """The first change of a setting that the ill target's incident offers, as a person does."""
        try:
            if self.plan.approves:
                async with asyncio.timeout(QUIET_WITHIN_SECONDS):
                    await self._decide(*await self._offered())
        except TimeoutError:
            self.broken.append("no change of a setting was offered and approved in time")
        finally:
            self.approval.set()

    async def _offered(self) -> tuple[str, list[dict[str, Any]]]:
        while True:
            path = f"/v1/incidents?target={ILL}&status=awaiting_approval&limit=1"
            for incident in (await self._get(path))["items"]:
                actions = [one for one in incident["plan"]["actions"] if one["executable"]]
                if any(one["kind"] == "set_config" for one in actions):
                    return incident["id"], actions
            await asyncio.sleep(LOOK_SECONDS)

    async def _decide(self, incident: str, actions: list[dict[str, Any]]) -> None:
        chosen = next(one for one in actions if one["kind"] == "set_config")
        self.approved = incident, chosen["id"]
        for action in actions:
            word = "approve" if action is chosen else "reject"
            path = f"/v1/incidents/{incident}/actions/{action['id']}/{word}"
            while (answer := await self._any(path, {"fingerprint": action["fingerprint"]})) is None:
                await asyncio.sleep(AGAIN_SECONDS)
            if action is chosen and not answer.is_success:
                self.broken.append(f"the approval was answered {answer.status_code}")

    async def _any(self, path: str, body: Any) -> httpx2.Response | None:
        url = self.chance.choice(self.on.urls)
        answer = await self._post(url + path, body)
        return None if answer is None or answer.status_code == 503 else answer

    async def _action(self) -> dict[str, Any]:
        assert self.approved is not None
        incident, action = self.approved
        actions = (await self._get(f"/v1/incidents/{incident}"))["plan"]["actions"]
        found: dict[str, Any] = next(one for one in actions if one["id"] == action)
        return found

    async def _applied_once(self, times: int) -> list[str]:
        if self.approved is None:
            return [f"{times} settings were written, and nothing was approved"] if times else []
        status = (await self._action())["status"]
        most = 2 if status.startswith("roll") else 1
        ends = ("verified", "failed", "lapsed", "rolled_back", "rollback_failed", "outcome_unknown")
        broken = [] if status in ends else [f"the approved action has no end: {status}"]
        if times > most or (status == "verified" and times == 0):
            broken.append(f"an action that is {status} wrote {times} times")
        return broken

    async def _quiet(self) -> str:
        deadline = time.monotonic() + QUIET_WITHIN_SECONDS
        while unquiet := await self._unquiet():
            if time.monotonic() > deadline:
                return unquiet
            await asyncio.sleep(LOOK_SECONDS)
        return ""

    async def _unquiet(self) -> str:
        try:
            return await invariants.unquiet(self.on.database)
        except DBAPIError as error:
            return f"the database cannot be asked: {error.orig}"

    async def _close(self, incidents: list[str]) -> None:
        """What waits for a person: the next round begins with nothing open."""
        for incident in incidents:
            async with asyncio.timeout(SENT_WITHIN_SECONDS):
                while await self._any(f"/v1/incidents/{incident}/close", {}) is None:
                    await asyncio.sleep(AGAIN_SECONDS)
