"""A person at a terminal: commands in this process, answered by a service in this process."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner, Result

from agent.incident import Plan
from api.cli import render
from api.cli.main import app
from api.store.journal import SqlJournal
from tests.api.serving import TOKENS, as_role
from tests.api.test_incidents_api import journal_of


class Shell:
    """Says commands; `watched`: somebody watches, at so many columns."""

    def __init__(self, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client, self.role, self.watched, self.columns = client, "admin", False, 80
        self.asked: list[str] = []
        monkeypatch.setattr("api.cli.client.httpx2.request", self._request)
        monkeypatch.setattr(render, "at_terminal", lambda **_: self.watched)

    def _request(self, method: str, url: str, **given: Any) -> httpx2.Response:
        del given["timeout"]
        path = urlsplit(url).path
        self.asked.append(f"{method} {path}")
        answer = self.client.request(method, path, **given)
        return httpx2.Response(answer.status_code, content=answer.content)

    def says(self, *words: str, keys: str = "", **environment: str) -> Result:
        token = TOKENS.get(self.role, self.role)
        settings = {"REDIS_ONCALL_TOKEN": token, "COLUMNS": str(self.columns), "TERM": "xterm"}
        return CliRunner().invoke(app, words, input=keys, env=settings | environment)

    def post(self, path: str, body: Any, role: str = "admin") -> Any:
        answer = self.client.post(path, json=body, headers=as_role(role))
        assert answer.is_success, answer.text
        return answer.json()

    def opens(self, target: str = "cache-eu") -> str:
        return str(self.post("/v1/investigations", {"target": target})["id"])

    def keeps(self, incident: str, *what: Callable[[SqlJournal], Awaitable[Any]]) -> None:
        """The worker's part of it."""

        async def keep() -> None:
            journal = await journal_of(self.client, incident)  # type: ignore[arg-type]
            for one in what:
                await one(journal)

        assert self.client.portal is not None
        self.client.portal.call(keep)

    def plans(self, incident: str, *actions: Any) -> None:
        self.keeps(
            incident,
            lambda journal: journal.set_plan(Plan(actions=list(actions))),
            lambda journal: journal.set_status("awaiting_approval"),
        )


def said(result: Result) -> str:
    """What came to stderr, on one line."""
    return " ".join(result.stderr.split())
