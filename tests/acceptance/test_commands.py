"""Every command, as its user runs it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from api.cli.demo import Service, running_service
from evals import servers
from evals.pouring import pour
from tests.acceptance.program import ROOT, clean, run, started
from tests.forked import Forked


@pytest.fixture
def filled(start_server: Callable[..., servers.Server]) -> servers.Server:
    server = start_server("valkey-9.1")
    client = Redis(port=server.port)
    pour(server.port, (("SET", f"session:{i:06d}", "x" * 300) for i in range(20_000)))
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] / 0.93))
    return server


def test_a_recording_is_investigated_elsewhere_with_the_same_result(
    filled: servers.Server, tmp_path: Path
) -> None:
    file = tmp_path / "case.jsonl.gz"
    captured = run("capture", filled.url, "-o", str(file))
    assert captured.returncode == 0, captured.stderr
    assert file.stat().st_size <= 60 * 1024
    servers.stop(filled)
    replayed = run("replay", str(file), "--json")
    assert replayed.returncode == 0, replayed.stderr
    diagnosis = json.loads(replayed.stdout)["diagnosis"]
    assert diagnosis["root_cause"] == "missing-ttl-prefix-leak"
    assert diagnosis["culprit"] == {"kind": "prefix", "name": "session:"}


@pytest.mark.long
def test_hashed_names_leave_no_name_behind(filled: servers.Server, tmp_path: Path) -> None:
    file = tmp_path / "case.jsonl"
    assert run("capture", filled.url, "-o", str(file), "--hash-names").returncode == 0
    assert "session:" not in file.read_text()
    diagnosis = json.loads(run("replay", str(file), "--json").stdout)["diagnosis"]
    assert diagnosis["root_cause"] == "missing-ttl-prefix-leak"
    assert diagnosis["culprit"]["name"] != "session:"


@pytest.mark.long
def test_incidents_chat_and_approve_speak_to_the_service(
    filled: servers.Server, tmp_path: Path
) -> None:
    with running_service(filled, tmp_path, Forked) as service:
        environment = {"REDIS_ONCALL_URL": service.url, "REDIS_ONCALL_TOKEN": service.token}
        opened = service.request(
            "POST", "/v1/investigations", {"target": "demo-redis", "question": "memory?"}
        )
        wait_for_the_gate(service, opened["id"])

        listed = run("incidents", **environment)
        assert opened["id"] in listed.stdout
        assert "missing-ttl-prefix-leak" in listed.stdout
        shown = run("incidents", opened["id"], **environment)
        assert "session:" in shown.stdout
        assert max(map(len, shown.stdout.splitlines())) <= 80

        answer = run("chat", "what is wrong?", "--incident", opened["id"], **environment)
        assert "session:" in answer.stdout

        plan = service.incident(opened["id"]).plan
        first = next(action for action in plan.actions if action.executable)
        asked = run("approve", opened["id"], first.id, **environment)
        assert asked.returncode == 2
        assert "--yes" in asked.stderr
        approved = run("approve", opened["id"], first.id, "--yes", **environment)
        assert approved.returncode == 0, approved.stderr
        wrong = run("incidents", opened["id"], **(environment | {"REDIS_ONCALL_TOKEN": "roc_no"}))
        assert wrong.returncode == 1
        assert "REDIS_ONCALL_TOKEN" in wrong.stderr


def wait_for_the_gate(service: Service, incident: str) -> None:
    deadline = time.monotonic() + 60
    while service.incident(incident).status != "awaiting_approval":
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_doctor_says_what_is_missing_and_shows_no_password(tmp_path: Path) -> None:
    config = tmp_path / "oncall.yaml"
    port = servers.free_port()
    config.write_text(
        f"targets: [{{name: gone, url: 'redis://u:a-secret-word@127.0.0.1:{port}'}}]\n"
    )
    examined = started("doctor", "--json", REDIS_ONCALL_CONFIG=str(config))
    findings = {finding["what"]: finding for finding in json.loads(examined.stdout)}
    assert findings["target gone"]["state"] == "missing"
    assert findings["tokens"]["state"] == "warning"
    assert "a-secret-word" not in examined.stdout + examined.stderr


def test_acl_prints_both_identities_for_a_version_and_for_a_server(filled: servers.Server) -> None:
    for chosen, program in (("6.2", run), ("valkey-9.1", run), (filled.url, started)):
        printed = program("acl", chosen)
        assert printed.returncode == 0, printed.stderr
        assert printed.stdout.count("ACL SETUSER") == 2
    assert run("acl", "nonsense").returncode == 2


@pytest.mark.long
def test_graph_token_runbooks_and_evals_print_what_they_promise() -> None:
    assert "load_runbook" in started("graph").stdout
    assert "roc_" in run("token", "ada", "--role", "approver").stdout
    assert run("token", "ada", "--role", "emperor").returncode == 2
    known = json.loads(run("runbooks", "list", "--json").stdout)
    assert "memory-pressure" in {book["id"] for book in known}
    assert run("runbooks", "lint").returncode == 0
    # A handful: the whole suite is run by tests/evals/test_scores.py.
    report = json.loads(run("evals", "run", "--json", "--only", "missing-ttl*").stdout)
    assert report["n"] >= 3
    assert report["hallucinated_evidence"] == 0
    assert report["false_positive_rate"] == 0


@pytest.mark.parametrize("command", [["runbooks", "list"], ["acl", "7.0"]])
def test_output_that_cannot_be_written_is_said_in_a_sentence(command: list[str]) -> None:
    """More than a buffer holds, and less: that fails at the end."""
    with Path("/dev/full").open("w") as full:
        told = subprocess.run(
            [sys.executable, "-m", "api.cli", *command],
            cwd=ROOT, env=clean({}), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    wanted = "redis-oncall: the output cannot be written: No space left on device\n"
    assert (told.returncode, told.stderr) == (1, wanted)


def test_a_bad_runbook_fails_lint_with_file_and_field(tmp_path: Path) -> None:
    (tmp_path / "bad.md").write_text(
        "---\nid: bad\ntitle: Bad\nbaseline: [no_such_tool]\n---\n# Bad\n"
    )
    linted = started("runbooks", "lint", str(tmp_path))
    assert linted.returncode == 1
    assert "bad.md" in linted.stdout
    assert "no_such_tool" in linted.stdout


def test_serving_beyond_loopback_without_tokens_is_refused() -> None:
    refused = started("serve", "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 2
    assert "token" in refused.stderr
