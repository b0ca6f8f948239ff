"""`redis-oncall analyze`, as its user runs it."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from evals import servers
from evals.bench.mixed_keys import mixed_keys
from evals.pouring import pour
from tests.acceptance.program import ROOT, clean, run
from tests.tools.looking import until
from tools.bigkeys import BigKeysArguments, bigkeys
from tools.connection import LiveConnection
from tools.keyspace import BigKeys
from tools.progress import Progress, Watch, watched

MANY = 200_000


@pytest.fixture
def filled(start_server: Callable[..., servers.Server]) -> servers.Server:
    server = start_server("valkey-9.1")
    pour(server.port, mixed_keys(5_000))
    pour(server.port, (("SET", f"flag:{n}", "on") for n in range(20_000)))
    fields = [word for n in range(100) for word in (f"f{n}", "v")]
    pour(server.port, (("HSET", f"user:{n}", *fields) for n in range(100)))
    Redis(port=server.port).set("evil\x1b[2J[bold]x[/bold]:" + "y" * 300, "v" * 50_000)
    return server


@pytest.fixture
def large(start_server: Callable[..., servers.Server]) -> servers.Server:
    server = start_server("valkey-9.1")
    pour(server.port, (("SET", f"user:{n}", "x" * 40) for n in range(MANY)))
    return server


def test_a_report_of_80_columns(filled: servers.Server) -> None:
    done = run("analyze", filled.url, "--every-key")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    for title in (
        "Largest keys", "Prefixes", "Types", "Time to live", "Not used for", "Encodings",
        "What would save memory", "Hot keys",
    ):  # fmt: skip
        assert f"\n{title}" in done.stdout, done.stdout
    assert "25,102 of 25,102 keys (100.0 %)" in done.stdout
    assert "big:" in done.stdout
    assert "flag: (string): keep small values as fields of hashes" in done.stdout
    assert "evil\\x1b[2J[bold]x[/bold]:" in done.stdout.replace("\n", "").replace(" ", "")
    assert "\x1b" not in done.stdout
    assert "--resume" not in done.stdout


def test_one_document_for_programs(filled: servers.Server) -> None:
    done = run("analyze", filled.url.replace("redis://", "redis://:secret@"), "--json")
    assert done.returncode == 1, "a wrong password is an expected failure"
    assert done.stdout == ""
    assert "secret" not in done.stderr
    found = json.loads(run("analyze", filled.url, "--json", "--pace", "fast").stdout)
    assert found["bigkeys"]["keys_seen"] == 25_102
    assert 10_000 <= found["encodings"]["keys_seen"] < 10_100
    assert "maxmemory-policy is noeviction" in found["hot_keys"]["because"]
    assert found["node"].endswith("(master)")


def test_what_cannot_be_analyzed_is_one_sentence(filled: servers.Server, tmp_path: Path) -> None:
    backup = tmp_path / "dump.rdb"
    backup.write_bytes(b"REDIS0012\xfa")
    wrong = ("--resume", "yesterday")
    for arguments, code, words in (
        ((str(backup),), 2, "RDB files are not read"),
        (("nowhere",), 2, "neither a redis://"),
        ((filled.url, *wrong), 2, "not what an analysis"),
        ((filled.url, "--resume", f"{'0' * 40}:17", "--mode", "sampled"), 2, "exact walk"),
        ((filled.url, "--resume", f"{'0' * 40}:17"), 1, "started again"),
        ((f"redis://127.0.0.1:{servers.free_port()}",), 1, "connect"),
    ):
        done = run("analyze", *arguments)
        assert (done.returncode, done.stdout) == (code, ""), (arguments, done)
        assert done.stderr.startswith("redis-oncall: "), done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert words in done.stderr


async def test_ctrl_c_ends_it_with_what_was_seen_and_how_to_go_on(large: servers.Server) -> None:
    stats = Redis(port=large.port, decode_responses=True)
    stats.config_resetstat()
    master, terminal = pty.openpty()
    walking = subprocess.Popen(
        [sys.executable, "-m", "api.cli", "analyze", large.url],
        cwd=ROOT, env=clean({"TERM": "xterm", "COLUMNS": "80"}), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=terminal, text=True,
    )  # fmt: skip
    os.close(terminal)
    await until(
        lambda: stats.info("commandstats").get("cmdstat_scan", {}).get("calls", 0) > 200, 30
    )
    walking.send_signal(signal.SIGINT)
    output, _ = walking.communicate(timeout=60)
    assert walking.returncode == 130
    told = os.read(master, 1_000_000).decode()
    os.close(master)
    assert "keys" in told
    assert "%" in told
    assert "whoever waited for it has ended it" in output.replace("\n", " ")
    flat = output.replace("\n", "")
    seen = int(flat.partition(" of ")[0].rpartition(")")[2].replace(",", ""))
    assert 200 * 10 < seen < MANY
    token = flat.partition("--resume ")[2].split()[0]
    rest = json.loads(run("analyze", large.url, "--json", "--resume", token).stdout)["bigkeys"]
    assert rest["complete"]
    assert seen + rest["keys_seen"] == MANY


async def test_whoever_watches_is_told_how_far_it_is(large: servers.Server) -> None:
    told: list[Progress] = []
    connection = LiveConnection(large.url)
    with watched(Watch(told.append)):
        found = await bigkeys(connection, BigKeysArguments(seconds=60))
    assert isinstance(found, BigKeys)
    assert found.complete
    assert [one.seen for one in told] == sorted(one.seen for one in told)
    assert told[-1].coverage == 1.0
    assert told[-1].left_seconds == pytest.approx(0.0)
    middle = told[len(told) // 2]
    assert 0.3 < middle.coverage < 0.7
    assert middle.left_seconds is not None
    assert middle.left_seconds == pytest.approx(middle.seconds, rel=0.5)
    number = len(told)
    await bigkeys(connection, BigKeysArguments(keys=1_000))
    assert len(told) == number, "nobody watches any more"
    watch = Watch(told.append, is_over=True)
    with watched(watch):
        found = await bigkeys(connection, BigKeysArguments())
    await connection.close()
    assert isinstance(found, BigKeys)
    assert 0 < found.keys_seen < 1_000
    assert found.resume
