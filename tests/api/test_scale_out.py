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


@pytest.mark.long
def test_a_worker_and_the_queue_die_and_two_people_approve_at_once(
    oncall: Oncall, ill: servers.Server, database_of_its_own: str, queue_server: QueueServer
) -> None:
    incident_id = oncall.alert()
    oncall.wait(lambda: oncall.incident(incident_id).evidence, "a worker looks at the server")
    died = at_work(database_of_its_own)
    oncall.kill_worker(died)
    before = oncall.incident(incident_id)
    assert before.status == "investigating"
    incident = oncall.reaches(incident_id, "awaiting_approval")
    whole(oncall, incident)
    assert incident.evidence[: len(before.evidence)] == before.evidence
    assert incident.attempt == 1

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
