"""The whole incident, on a cluster, behind Sentinels and over TLS, with failovers in its middle."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from agent.context import Target
from agent.incident import Action, Incident
from api.watch import sample
from evals import servers
from evals.pouring import pour
from tests.acceptance.program import run
from tests.api.process import Oncall
from tests.deployments import ClusterOfNodes, cluster, kill, say, tls_server, until, watched

pytestmark = pytest.mark.usefixtures("close_samples")
LIMIT = (
    "--maxmemory", "32mb", "--maxmemory-policy", "noeviction", "--repl-backlog-size", "1mb",
)  # fmt: skip


@contextlib.contextmanager
def oncall_of(folder: Path, url: str) -> Iterator[Oncall]:
    running = Oncall(folder, 0, {"verify_for": "2s"}, url)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def leak_into(made: ClusterOfNodes, server: servers.Server) -> None:
    """Keys without expiry, of one prefix, to this node's limit: only what its slots take."""
    for start in range(0, 300_000, 3_000):
        ours = [
            ("SET", f"session:{number}", b"x" * 1_000)
            for number in range(start, start + 3_000)
            if made.owner_of(f"session:{number}") is server
        ]
        if pour(server.port, ours):
            return
    raise AssertionError("it never was full")


def leak(port: int) -> None:
    for start in range(0, 100_000, 500):
        if pour(port, (("SET", f"session:{n}", b"x" * 1_000) for n in range(start, start + 500))):
            return
    raise AssertionError("it never was full")


def proposed(oncall: Oncall, incident: Incident) -> Action:
    """The change of a setting, which nobody's data is at stake for."""
    return next(a for a in incident.plan.actions if a.kind == "set_config" and a.executable)


def approved(oncall: Oncall, incident: Incident, action: Action) -> None:
    path = f"/v1/incidents/{incident.id}/actions/{action.id}/approve"
    oncall.post(path, {"fingerprint": action.fingerprint, "comment": "go"})


def ended(oncall: Oncall, incident: Incident, action: Action, *statuses: str) -> Action:
    def then() -> Action | None:
        found = oncall.action(incident.id, action.id)
        return found if found.status in statuses else None

    done: Action = oncall.wait(then, f"the action is {statuses}")
    return done


def verified(oncall: Oncall, incident: Incident, port: int) -> None:
    """Approve what is proposed: it is written to that server, and watched there."""
    before = settings_written_to(port)
    action = proposed(oncall, incident)
    approved(oncall, incident, action)
    done = ended(oncall, incident, action, "verified", "rolled_back", "lapsed", "failed")
    assert done.status == "verified", done.comment
    assert settings_written_to(port) == before + 1


def settings_written_to(port: int) -> int:
    with redis.Redis(port=port) as client:
        return int(client.info("commandstats").get("cmdstat_config|set", {}).get("calls", 0))


@pytest.mark.long
def test_a_cluster_whose_shard_is_full_and_then_fails_over(tmp_path: Path) -> None:
    with cluster("valkey-9.1", *LIMIT) as made, oncall_of(tmp_path, made.url) as oncall:
        full, heir = made.primaries[1], made.replicas[1]
        leak_into(made, full)
        until(lambda: _replicated(full.port, heir.port), "the replica")
        incident = oncall.reaches(oncall.alert(), "awaiting_approval")
        assert incident.diagnosis is not None
        assert incident.diagnosis.root_cause == "missing-ttl-prefix-leak"
        assert incident.diagnosis.culprit.name == "session:"
        # Nobody said which node: it is the one that stands out; all are in the evidence.
        assert {e.node for e in incident.evidence if e.tool != "earlier"} == {
            f"127.0.0.1:{full.port} (master)"
        }
        seen = next(e for e in incident.evidence if e.tool == "nodes")
        assert seen.summary.startswith("3 primaries, 3 replicas;")
        report = oncall.client.get(f"/v1/incidents/{incident.id}/report").text
        assert f"- Nodes: 3 primaries, 3 replicas; 127.0.0.1:{full.port} (primary) uses" in report

        # It dies before somebody says yes: that yes was about another server.
        action = proposed(oncall, incident)
        kill(full)
        until(lambda: say(heir.port, "ROLE")[0] == "master", "the heir")
        approved(oncall, incident, action)
        lapsed = ended(oncall, incident, action, "lapsed", "applied", "verified", "failed")
        assert lapsed.status == "lapsed", lapsed.comment
        assert settings_written_to(heir.port) == 0

        oncall.post(f"/v1/incidents/{incident.id}/reinvestigate", {})
        again = oncall.wait(
            lambda: (
                i
                if (i := oncall.incident(incident.id)).status == "awaiting_approval"
                and i.evidence[-1].node.startswith(f"127.0.0.1:{heir.port} ")
                else None
            ),
            "the heir is looked at",
        )
        verified(oncall, again, heir.port)


def _replicated(primary: int, replica: int) -> bool:
    keys = say(primary, "DBSIZE")
    return bool(keys > 1_000 and say(replica, "DBSIZE") == keys)


@pytest.mark.long
def test_an_alert_names_the_node_of_the_cluster(tmp_path: Path) -> None:
    with cluster("valkey-9.1", replicas=False) as made, oncall_of(tmp_path, made.url) as oncall:
        quiet = made.primaries[2]
        incident = oncall.reaches(
            oncall.alert(node=f"127.0.0.1:{quiet.port}"), "resolved", "needs_human"
        )
        assert {e.node for e in incident.evidence} == {f"127.0.0.1:{quiet.port} (master)"}


@pytest.mark.long
def test_sentinels_with_a_failover_in_the_middle_of_the_investigation(tmp_path: Path) -> None:
    with watched("redis-8.2", *LIMIT) as made, oncall_of(tmp_path, made.url) as oncall:
        leak(made.primary.port)
        until(made.in_sync, "replicas")
        first = oncall.alert()
        oncall.wait(lambda: oncall.incident(first).evidence, "it is looked at")
        kill(made.primary)
        incident = oncall.reaches(first, "awaiting_approval", "needs_human", "resolved")
        assert incident.diagnosis is not None
        port = made.named()
        nodes = {e.node for e in incident.evidence if e.node.endswith("(master)")}
        assert nodes == {f"127.0.0.1:{p} (master)" for p in (made.primary.port, port)}
        assert any("a failover came between" in text for text in incident.diagnosis.not_measured)
        assert incident.diagnosis.escalate

        # Looked at again, it is the new primary alone; the cure goes to it.
        oncall.post(f"/v1/incidents/{first}/reinvestigate", {})
        again = oncall.wait(
            lambda: (
                i
                if (i := oncall.incident(first)).status == "awaiting_approval"
                and i.diagnosis is not None
                and not i.diagnosis.escalate
                else None
            ),
            "the new primary is looked at",
        )
        assert again.diagnosis is not None
        assert again.diagnosis.root_cause == "missing-ttl-prefix-leak"
        verified(oncall, again, port)


@pytest.mark.long
def test_everything_over_tls_with_certificates_of_both_sides(tmp_path: Path) -> None:
    with tls_server(tmp_path, *LIMIT) as (server, url), oncall_of(tmp_path, url) as oncall:
        with redis.Redis.from_url(url) as client:
            pipe = client.pipeline(transaction=False)
            for number in range(50_000):
                pipe.set(f"session:{number}", b"x" * 1_000)
            assert isinstance(pipe.execute(raise_on_error=False)[-1], redis.OutOfMemoryError)
        incident = oncall.reaches(oncall.alert(), "awaiting_approval")
        assert incident.diagnosis is not None
        assert incident.diagnosis.root_cause == "missing-ttl-prefix-leak"
        assert {e.node for e in incident.evidence if e.node.endswith(")")} == {
            f"127.0.0.1:{server} (master)"
        }
        action = proposed(oncall, incident)
        approved(oncall, incident, action)
        done = ended(oncall, incident, action, "verified", "rolled_back", "lapsed", "failed")
        assert done.status == "verified", done.comment
        assert (
            str(tmp_path / "ca.pem")
            not in oncall.client.get(f"/v1/incidents/{incident.id}/report").text
        )


async def test_no_memory_over_days_is_kept_of_a_cluster() -> None:
    with cluster("valkey-9.1", replicas=False) as made:
        assert await sample(Target(name="shop", url=made.url)) is None
        alone = await sample(Target(name="one", url=made.primaries[0].url))
        assert alone is not None


@pytest.mark.long
def test_while_a_node_hangs_nobody_says_that_nothing_is_wrong() -> None:
    patient = ("--cluster-node-timeout", "60000")  # so the others do not notice
    with cluster("valkey-9.1", *patient, replicas=False) as made:
        hangs = made.primaries[2]
        os.kill(hangs.pid, signal.SIGSTOP)
        done = run("investigate", made.url, "--json")
        assert done.returncode == 0, done.stderr
        incident = Incident.model_validate_json(done.stdout)
        assert incident.status == "needs_human"
        assert incident.diagnosis is not None
        assert (incident.diagnosis.root_cause, incident.diagnosis.escalate) == ("unknown", True)
        silent = f"nodes that did not answer: 127.0.0.1:{hangs.port} (primary): "
        assert incident.diagnosis.summary.startswith(silent)
        assert any(text.startswith(silent) for text in incident.diagnosis.not_measured)


@pytest.mark.long
def test_an_approval_is_carried_out_on_the_node_that_was_looked_at(tmp_path: Path) -> None:
    """Though by then another one is in greater trouble."""
    with cluster("valkey-9.1", *LIMIT, replicas=False) as made:
        worse, full = made.primaries[:2]
        leak_into(made, full)
        with oncall_of(tmp_path, made.url) as oncall:
            incident = oncall.reaches(oncall.alert(), "awaiting_approval")
            assert incident.evidence[-1].node == f"127.0.0.1:{full.port} (master)"
            say(worse.port, "CONFIG", "SET", "maxmemory", "1mb")
            verified(oncall, incident, full.port)
            assert settings_written_to(worse.port) == 1, "by this test"
