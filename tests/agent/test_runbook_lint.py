"""Lint finds wrong names, missing sections and harmful commands before an incident does."""

from pathlib import Path

import pytest

from agent.harmful import harm_in
from agent.runbook import Problem
from agent.runbook_library import PACKAGED
from agent.runbook_lint import REQUIRED_SECTIONS, lint

BODY = "# X\n" + "".join(f"\n## {section}\ntext\n" for section in REQUIRED_SECTIONS)
GOOD = """\
id: x
title: X
baseline: [memory_info]
causes:
  - id: single-bigkey
    title: One key
    needs: [key_dominates]
    ask_next: [{tool: config_get, args: {parameters: [maxmemory]}}]
    remedies: [advise_application, {kind: set_config, args: {parameter: maxmemory}}]
    prevention: ["{memory_info.used_memory:bytes} used, {user:1} is no placeholder"]
alerts: [{when: config_get.parameters.maxmemory, below: 1, for: 5m}]
prevention: [{text: "full in {capacity.seconds_to_full:seconds}"}]
"""


def linted(tmp_path: Path, front: str, body: str = BODY) -> list[Problem]:
    path = tmp_path / "x.md"
    path.write_text(f"---\n{front}---\n{body}", encoding="utf-8")
    return lint([path])


def test_every_shipped_runbook_is_clean() -> None:
    assert [str(problem) for problem in lint([PACKAGED])] == []


def test_a_good_runbook_is_clean(tmp_path: Path) -> None:
    assert linted(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("right", "wrong", "field", "message"),
    [
        ("[memory_info]", "[memory_inf]", "baseline", "unknown tool 'memory_inf'"),
        ("single-bigkey", "big-key", "causes.0.id", "unknown cause 'big-key'"),
        ("[key_dominates]", "[key_rules]", "causes.0.needs", "unknown signal 'key_rules'"),
        (
            "needs: [key_dominates]",
            "supported_by: {key_rules: 2}",
            "causes.0.supported_by",
            "unknown signal 'key_rules'",
        ),
        ("tool: config_get", "tool: config", "causes.0.ask_next", "unknown tool 'config'"),
        ("{parameters:", "{params:", "causes.0.ask_next.args", "unknown argument 'params'"),
        ("[advise_application", "[flush", "causes.0.remedies", "unknown remedy 'flush'"),
        ("kind: set_config", "kind: FLUSHALL", "causes.0.remedies", "unknown remedy 'FLUSHALL'"),
        (".used_memory:", ".memory_used:", "causes.0.prevention", "has no 'memory_used'"),
        (":bytes}", ":bites}", "causes.0.prevention", "unknown unit 'bites'"),
        ("config_get.parameters", "config.parameters", "alerts.0.when", "unknown tool 'config'"),
        ("below: 1, ", "", "alerts.0", "has no bound"),
        ("for: 5m", "for: soon", "alerts.0.for", "'soon' is no duration"),
        ("capacity.seconds", "capacity.days", "prevention.0", "unknown tool 'capacity'"),
    ],
)
def test_a_wrong_name_is_found_with_its_field(
    right: str, wrong: str, field: str, message: str, tmp_path: Path
) -> None:
    assert right in GOOD
    (problem,) = linted(tmp_path, GOOD.replace(right, wrong, 1))
    assert problem.field == field
    assert message in problem.message
    assert problem.remedy


def test_a_problem_names_the_line(tmp_path: Path) -> None:
    (problem,) = linted(tmp_path, GOOD.replace("[key_dominates]", "[key_rules]"))
    assert problem.line == 8
    assert str(problem).startswith(f"{tmp_path / 'x.md'}:8: causes.0.needs: unknown signal")


@pytest.mark.parametrize("section", REQUIRED_SECTIONS)
def test_a_missing_section_is_found(section: str, tmp_path: Path) -> None:
    # A heading inside a fence is a comment of the shell, not a section.
    body = BODY.replace(f"## {section}\n", f"```\n## {section}\n```\n")
    (problem,) = linted(tmp_path, GOOD, body)
    assert problem.field == section


def test_a_checklist_line_without_a_check_is_found(tmp_path: Path) -> None:
    body = BODY.replace("## Production Checklist\n", "## Production Checklist\n- [ ] Sleep well.\n")
    (problem,) = linted(tmp_path, GOOD, body)
    assert "'Sleep well.'" in problem.message
    checked = GOOD + "checklist: [{item: sleep, check: swap}]\n"
    assert linted(tmp_path, checked, body) == []
    assert linted(tmp_path, GOOD, body.replace("well.", "well. <!-- check: swap -->")) == []
    (problem,) = linted(tmp_path, GOOD, body.replace("well.", "well. <!-- check: nap -->"))
    assert "unknown check 'nap'" in problem.message


def test_an_unknown_check_is_found(tmp_path: Path) -> None:
    (problem,) = linted(tmp_path, GOOD + "checklist: [{item: sleep, check: nap}]\n")
    assert "unknown check 'nap'" in problem.message


@pytest.mark.parametrize(
    "line",
    [
        "redis-cli FLUSHALL",
        "redis-cli -h host -a secret flushdb ASYNC",
        "redis-cli KEYS 'session:*'",
        "for k in $(redis-cli keys '*'); do redis-cli TTL $k; done",
        "redis-cli --scan --pattern 'a:*' | xargs redis-cli DEL",
        "valkey-cli SAVE",
        "127.0.0.1:6379> MONITOR",
        "$ redis-cli DEBUG SLEEP 1",
        "redis-cli SHUTDOWN NOSAVE",
        "redis-cli CONFIG SET requirepass hunter2",
        "redis-cli 'CONFIG SET requirepass hunter2'",
        "redis-cli CONFIG SET maxmemory 1gb dir /tmp",
        "redis-cli config set stop-writes-on-bgsave-error no",
        "redis-cli CLIENT KILL TYPE pubsub",
        "redis-cli ACL SETUSER app on nopass",
        "redis-cli REPLICAOF NO ONE",
        "redis-cli CLUSTER RESET HARD",
        "redis-cli XGROUP DESTROY orders billing",
        "redis-cli MODULE UNLOAD search",
        "redis-cli SCRIPT FLUSH",
        "redis-cli EVAL \"redis.call('FLUSHALL')\" 0",
        "redis-cli HGETALL big",
        "flushall",
        "redis-cli \\\n  FLUSHALL",
        "rm /var/lib/redis/appendonly.aof",
        "kill -9 $(pidof redis-server)",
    ],
)
def test_a_harmful_command_in_a_fence_is_found(line: str, tmp_path: Path) -> None:
    body = BODY.replace(
        "## Immediate Remediation\n", f"## Immediate Remediation\n```bash\n{line}\n```\n"
    )
    (problem,) = linted(tmp_path, GOOD, body)
    assert problem.field == "Immediate Remediation"
    assert problem.line is not None
    written = (tmp_path / "x.md").read_text().splitlines()[problem.line - 1]
    assert written == line.splitlines()[0]


@pytest.mark.parametrize(
    "body",
    [
        "Never run `FLUSHALL`, `KEYS *` or `redis-cli DEL big`.\n",
        "```bash\n# do not FLUSHALL, no redis-cli KEYS\nredis-cli INFO keyspace # KEYS\n```\n",
        "```bash\nredis-cli UNLINK big\nredis-cli HDEL big f\nredis-cli CONFIG SET save ''\n```\n",
        "```bash\nredis-cli CLIENT LIST TYPE pubsub\nredis-cli SCRIPT FLUSH ASYNC\n```\n",
        "```bash\nredis-cli CLIENT KILL ID 7\nredis-cli CONFIG SET maxmemory 1gb\n```\n",
    ],
)
def test_naming_it_in_prose_and_harmless_commands_are_fine(body: str) -> None:
    assert list(harm_in(body)) == []


def test_prose_alone_needs_no_sections_but_may_not_harm(tmp_path: Path) -> None:
    path = tmp_path / "ours.md"
    path.write_text("# Ours\n```\nredis-cli INFO memory\n```\n", encoding="utf-8")
    assert lint([path]) == []
    path.write_text("# Ours\n```\nredis-cli FLUSHALL\n```\n", encoding="utf-8")
    (problem,) = lint([tmp_path])
    assert "FLUSHALL" in problem.message
    assert problem.line == 3


def test_broken_files_and_repeated_ids_are_problems_too(tmp_path: Path) -> None:
    (tmp_path / "broken.md").write_text("---\nid: x\n---\n", encoding="utf-8")
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text(f"---\n{GOOD}---\n{BODY}", encoding="utf-8")
    problems = lint([tmp_path])
    assert [(Path(p.file).name, p.field) for p in problems] == [
        ("b.md", "id"),
        ("broken.md", "title"),
    ]


def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    (problem,) = lint([tmp_path / "nowhere.md"])
    assert problem.field == "file"
