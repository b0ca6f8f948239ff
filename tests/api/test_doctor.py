"""`doctor` tries what it calls ok: the database, the queue, the key, the model."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from api.auditing import keyring
from api.cli import reached
from api.cli.main import app
from api.settings import load_settings
from api.store.chain import Keyring
from api.store.database import Database, database_url
from api.store.migrate import migrate
from api.store.trail import begin
from evals import servers

PASSWORD = "s3cr3t-w0rd"
KEY = base64.b64encode(b"k" * 32).decode()


def examined(folder: Path, what: str, **environment: str) -> tuple[str, str]:
    """The state and the words of one line; nothing is made and no secret is shown."""
    before = sorted(folder.rglob("*"))
    environment = {"REDIS_ONCALL_DATA": str(folder), "REDIS_ONCALL_CONFIG": "", **environment}
    told = CliRunner().invoke(app, ["doctor", "--json"], env=environment)
    assert told.exit_code == 0, told.output
    assert PASSWORD not in told.output
    assert sorted(folder.rglob("*")) == before
    (found,) = [row for row in json.loads(told.stdout) if row["what"] == what]
    return found["state"], found["says"]


@pytest.fixture
def silent() -> Iterator[int]:
    """A port whose server takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_before_the_first_start_there_is_neither_database_nor_key(tmp_path: Path) -> None:
    for what in ("database", "key"):
        state, says = examined(tmp_path, what)
        assert state == "warning"
        assert "the first start makes it" in says


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "redis-oncall.db").write_bytes(b"garbage" * 4_000)
    state, says = examined(tmp_path, "database")
    assert state == "missing"
    assert "not a database" in says
    assert "REDIS_ONCALL_DATA" in says


@pytest.mark.parametrize(
    ("what", "scheme", "name"),
    [("database", "postgresql", "DATABASE_URL"), ("queue", "redis", "REDIS_ONCALL_QUEUE")],
)
def test_a_server_that_is_away_or_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: int, what: str, scheme: str, name: str
) -> None:
    for port, because in ((servers.free_port(), "Error"), (silent, "")):
        monkeypatch.setattr(reached, "SECONDS", 5.0 if because else 0.3)
        url = f"{scheme}://oncall:{PASSWORD}@127.0.0.1:{port}/0"
        state, says = examined(tmp_path, what, **{name: url})
        assert state == "missing"
        assert name in says
        assert because in says


def test_a_queue_server_that_answers(tmp_path: Path, server: servers.Server) -> None:
    url = f"redis://127.0.0.1:{server.port}/0"
    assert examined(tmp_path, "queue", REDIS_ONCALL_QUEUE=url) == ("ok", url)


def test_a_postgresql_that_only_reads(tmp_path: Path, postgresql: str) -> None:
    assert examined(tmp_path, "database", DATABASE_URL=postgresql)[0] == "ok"
    with psycopg.connect(postgresql, autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS read_only")
        admin.execute("CREATE DATABASE read_only")
        admin.execute("ALTER DATABASE read_only SET default_transaction_read_only = on")
    url = postgresql.rpartition("/")[0] + "/read_only"
    state, says = examined(tmp_path, "database", DATABASE_URL=url)
    assert (state, "only reads" in says) == ("missing", True)


async def test_the_key_is_that_of_the_trail(url: str, tmp_path: Path) -> None:
    database = Database(database_url(url))
    await migrate(database)
    known = {"DATABASE_URL": url, "REDIS_ONCALL_KEY": KEY}
    folder = tmp_path / "data"
    folder.mkdir()
    settings = load_settings({**known, "REDIS_ONCALL_DATA": str(folder)})
    await begin(database, Keyring(keyring(settings).current))
    await database.close()

    async def key(**environment: str) -> tuple[str, str]:
        told = load_settings({"REDIS_ONCALL_DATA": str(folder), "DATABASE_URL": url, **environment})
        found = await reached.key_of(told, database_answers=True)
        return found.state, found.says

    assert await key(REDIS_ONCALL_KEY=KEY) == ("ok", "REDIS_ONCALL_KEY")
    state, says = await key()
    assert (state, "is gone" in says) == ("missing", True)
    other = base64.b64encode(b"o" * 32).decode()
    state, says = await key(REDIS_ONCALL_KEY=other)
    assert (state, "REDIS_ONCALL_PREVIOUS_KEYS" in says) == ("missing", True)
    rotated = await key(REDIS_ONCALL_KEY=other, REDIS_ONCALL_PREVIOUS_KEYS=KEY)
    assert rotated[0] == "ok"
    assert list(folder.iterdir()) == []


class Endpoint(BaseHTTPRequestHandler):
    """Answers one token, to the older name of its limit, if the key is right."""

    asked: list[Any]

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(question)
        status = 400 if "max_tokens" not in question else 200
        if self.headers["Authorization"] != f"Bearer {PASSWORD}":
            status = 401
        message = {"role": "assistant", "content": "yes"}
        choice = {"index": 0, "finish_reason": "length", "message": message}
        whole = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
        body = json.dumps(whole | {"choices": [choice]}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def endpoint() -> Iterator[str]:
    Endpoint.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def test_the_model_is_asked_for_one_token(tmp_path: Path) -> None:
    with endpoint() as url:
        model = {"OPENAI_MODEL": "m", "OPENAI_BASE_URL": url}
        state, says = examined(tmp_path, "model", OPENAI_API_KEY=PASSWORD, **model)
        assert (state, "answered in" in says) == ("ok", True)
        assert [one["model"] for one in Endpoint.asked] == ["m", "m"]
        state, says = examined(tmp_path, "model", OPENAI_API_KEY="another", **model)
        assert (state, "answered 401: see OPENAI_API_KEY" in says) == ("missing", True)
    state, says = examined(tmp_path, "model", OPENAI_API_KEY=PASSWORD, **model)
    assert (state, "cannot be reached" in says) == ("missing", True)


def test_a_model_that_says_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: int
) -> None:
    monkeypatch.setattr(reached, "SECONDS", 0.3)
    model = {"OPENAI_MODEL": "m", "OPENAI_BASE_URL": f"http://127.0.0.1:{silent}/v1"}
    state, says = examined(tmp_path, "model", **model)
    assert (state, "no answer within" in says) == ("missing", True)
