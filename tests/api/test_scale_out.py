"""Several workers on PostgreSQL and a queue server: whoever dies, the others carry on."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from agent.incident import Incident
from evals import servers
from tests.api.process import Oncall, setting_of, settings_written, whole

POLICY = {
    "rules": [{"risk": "R1", "environment": "staging", "role": "approver", "approvals": 2}],
    "expires": "2h",
}


class QueueServer:
    """A queue server without persistence, on one port for its whole life."""

    def __init__(self, binary: Path) -> None:
        self._binary = binary
        self.port = servers.free_port()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def queue_server() -> Iterator[QueueServer]:
    binary = servers.binary("valkey-9.1")
    assert binary is not None
    server = QueueServer(binary)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def database_of_its_own(postgresql: str) -> str:
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS scale_out WITH (FORCE)")
        connection.execute("CREATE DATABASE scale_out")
    return postgresql.removesuffix("postgres") + "scale_out"


@pytest.fixture
def oncall(
    tmp_path: Path, ill: servers.Server, database_of_its_own: str, queue_server: QueueServer
) -> Iterator[Oncall]:
    """A service that only answers requests, and two workers."""
    queue = f"redis://127.0.0.1:{queue_server.port}/0"
    oncall = Oncall(
        tmp_path, ill.port, POLICY, DATABASE_URL=database_of_its_own, REDIS_ONCALL_QUEUE=queue
    )
    oncall.start_worker()
    oncall.start_worker()
    oncall.start("--no-worker")
    yield oncall
    oncall.stop()


def at_work(database: str) -> int:
    """Process id of the worker that holds the target's lease."""
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT holder FROM leases WHERE expires > 0").fetchone()
    assert row is not None, "nobody works on it"
    return int(row[0].split(":")[1])


def checkpoints(database: str, incident_id: str) -> list[tuple[str, int]]:
    """Source and step of each, in the order in which they were made."""
    with psycopg.connect(database) as connection:
        return connection.execute(
            "SELECT metadata->>'source', (metadata->>'step')::int FROM checkpoints "
            "WHERE thread_id LIKE %s ORDER BY checkpoint_id",
            [f"{incident_id}/%"],
        ).fetchall()


def watched(oncall: Oncall, incident_id: str, seen: list[tuple[int, str]]) -> None:
    """Number and kind of every event, as the service streams them, until the end."""
    number = 0
    path = f"/v1/incidents/{incident_id}/events"
    with oncall.client.stream("GET", path, timeout=180) as stream:
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                number = int(value)
            elif name == "event":
                seen.append((number, value))


@pytest.mark.long
def test_a_worker_and_the_queue_die_and_two_people_approve_at_once(
    oncall: Oncall, ill: servers.Server, database_of_its_own: str, queue_server: QueueServer
) -> None:
    with psycopg.connect(database_of_its_own) as connection:
        migrations = "SELECT count(*) FROM audit WHERE what = 'migrate'"
        # Whoever migrated says so when it goes on, and need not be the one that answers first.
        oncall.wait(lambda: connection.execute(migrations).fetchone() != (0,), "it is on record")
        assert connection.execute(migrations).fetchone() == (1,), "three began, one migrated"
    incident_id = oncall.alert()
    seen: list[tuple[int, str]] = []
    watcher = threading.Thread(target=watched, args=[oncall, incident_id, seen])
    watcher.start()
    oncall.wait(lambda: oncall.incident(incident_id).evidence, "a worker looks at the server")
    died = at_work(database_of_its_own)
    oncall.kill_worker(died)
    before = oncall.incident(incident_id)
    assert before.status == "investigating"
    incident = oncall.reaches(incident_id, "awaiting_approval")
    whole(oncall, incident)
    assert incident.evidence[: len(before.evidence)] == before.evidence
    assert incident.attempt == 1
    looks = [(piece.tool, str(piece.args), piece.node) for piece in incident.evidence]
    assert len(looks) == len(set(looks)), "nothing was asked twice"
    sources = checkpoints(database_of_its_own, incident_id)
    assert sources == [("input", -1), *(("loop", step) for step in range(len(sources) - 1))], (
        "the other went on from the checkpoint: from the start there would be a second input"
    )

    action = setting_of(incident)
    assert action.approvals_required == 2, "the file's policy, not the built-in one"
    assert action.expires_at is not None
    assert 7_000 < (action.expires_at - incident.opened_at).total_seconds() < 7_400
    queue_server.kill()  # with all that was in it
    _at_once(*(lambda n=name: oncall.approve(incident_id, action, n) for name in ("alice", "bob")))
    approved = oncall.action(incident_id, action.id)
    assert sorted(approval.by for approval in approved.approvals) == ["alice", "bob"]
    queue_server.start()
    oncall.wait(
        lambda: oncall.action(incident_id, action.id).status == "verified",
        "the other worker applies and verifies it",
    )
    assert settings_written(ill) == 1
    oncall.reject_rest(incident_id)
    ended: Incident = oncall.reaches(incident_id, "resolved")
    assert ended.attempt == 1
    watcher.join(30)
    assert [number for number, _ in seen] == list(range(1, len(seen) + 1))
    kinds = {kind for _, kind in seen}
    assert kinds == {"status", "evidence", "claim", "plan", "action", "end"}, "of the workers, too"
    log = oncall.log.read_text().splitlines()
    assert [line for line in log if line.startswith(("Traceback", "  File"))] == [], "JSON only"


def _at_once(*calls: Callable[[], object]) -> None:
    """Run them together; what one raises is raised."""
    problems: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as problem:  # noqa: BLE001 - raised below, in the test's thread
            problems.append(problem)

    threads = [threading.Thread(target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    if problems:
        raise problems[0]
