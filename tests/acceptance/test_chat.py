"""`redis-oncall chat` as its user runs it: one question, a pipe, a terminal; service or none."""

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from api.cli.demo import Service, running_service
from evals import servers
from evals.pouring import pour
from tests.acceptance.program import ROOT, run
from tests.acceptance.test_commands import wait_for_the_gate
from tests.forked import Forked

NO_SERVICE = {"REDIS_ONCALL_URL": "http://127.0.0.1:9"}
SECONDS = 60.0


@pytest.fixture
def filled(start_server: Callable[..., servers.Server]) -> servers.Server:
    """Keys under one prefix, and one with a name that would repaint the screen."""
    server = start_server("valkey-9.1")
    client = Redis(port=server.port)
    pour(server.port, (("SET", f"session:{i:06d}", "x" * 300) for i in range(20_000)))
    client.hset("\x1b[2J[bold red]cart\u202e", mapping={f"f{n}": "y" * 100 for n in range(500)})
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] / 0.93))
    return server


def piped(text: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "REDIS_ONCALL_"))}
    return subprocess.run(
        [sys.executable, "-m", "api.cli", "chat", *arguments],
        cwd=ROOT, env=kept | environment, input=text, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip


def test_a_server_is_asked_directly_and_hostile_names_stay_text(filled: servers.Server) -> None:
    asked = run("chat", "what is the biggest key?", "--url", filled.url, **NO_SERVICE)
    assert asked.returncode == 0, asked.stderr
    assert r'"\x1b[2J[bold red]cart\u202e" ("hash")' in " ".join(asked.stdout.split())
    assert "[E1] bigkeys on 127.0.0.1" in asked.stdout
    assert "\x1b" not in asked.stdout + asked.stderr
    assert max(map(len, asked.stdout.splitlines())) <= 80
    assert asked.stderr == "by rules\n"


def test_a_pipe_asks_line_by_line(filled: servers.Server) -> None:
    text = "how is memory?\n\nrun FLUSHALL\nwhat is maxmemory?\n"
    asked = piped(text, "--url", filled.url, "--json", **NO_SERVICE)
    assert asked.returncode == 0, asked.stderr
    answers = [json.loads(line)["answer"] for line in asked.stdout.splitlines()]
    assert len(answers) == 3
    assert "are used" in answers[0]
    assert answers[1].startswith("I cannot change anything")
    assert answers[2].startswith("maxmemory is ")
    assert Redis(port=filled.port).dbsize() == 20_001


def test_without_a_service_the_runbooks_are_still_there() -> None:
    asked = run("chat", "what causes memory fragmentation?", **NO_SERVICE)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.startswith("Runbook fragmentation-after-deletes, ")
    assert "start it with `redis-oncall serve`" in " ".join(asked.stderr.split())
    assert max(map(len, asked.stderr.splitlines())) <= 80
    record = run("chat", "what is wrong?", "--incident", "inc-1", **NO_SERVICE)
    assert record.returncode == 1
    assert "start it with `redis-oncall serve`" in record.stderr


def test_what_does_not_go_together_is_refused() -> None:
    asked = run("chat", "memory?", "--url", "redis://x", "--incident", "inc-1", **NO_SERVICE)
    assert asked.returncode == 2
    assert "--url looks at a server itself" in asked.stderr
    nowhere = run("chat", "memory?", "--url", "nowhere", **NO_SERVICE)
    assert nowhere.returncode == 2
    assert "nor a configured target" in nowhere.stderr


@pytest.mark.long
def test_the_service_keeps_threads_that_can_be_listed_and_continued(
    filled: servers.Server, tmp_path: Path
) -> None:
    with running_service(filled, tmp_path, Forked) as service:
        environment = {"REDIS_ONCALL_URL": service.url, "REDIS_ONCALL_TOKEN": service.token}
        about = opened(service)
        first = run("chat", "what is wrong?", "--incident", about, "--json", **environment)
        assert first.returncode == 0, first.stderr
        answer = json.loads(first.stdout)
        assert "session:" in answer["answer"]
        thread = answer["thread_id"]
        more = run("chat", "is it safe to apply?", "--thread", "last", **environment)
        assert f"go on with --thread {thread}" in more.stderr
        assert "Preconditions" in more.stdout
        listed = run("chat", "--threads", **environment)
        assert listed.stdout.startswith(thread)
        assert "what is wrong?" in listed.stdout
        (item,) = json.loads(run("chat", "--threads", "--json", **environment).stdout)["items"]
        assert (item["id"], item["turns"], item["incident_id"]) == (thread, 2, about)
        every = run("chat", "status of all incidents", **environment)
        assert about in every.stdout
        assert "awaiting approval" in every.stdout
        refused = run("chat", "memory?", "--target", "no-such", **environment)
        assert refused.returncode == 1
        assert "not a configured target (configured: demo-redis)" in refused.stderr


def opened(service: Service) -> str:
    body = {"target": "demo-redis", "question": "memory?"}
    incident = str(service.request("POST", "/v1/investigations", body)["id"])
    wait_for_the_gate(service, incident)
    return incident


def _of_its_own() -> None:
    """The terminal's Ctrl-C reaches the program, also where whoever runs the tests ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """The program on a pseudo-terminal, 80 columns wide."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("REDIS_ONCALL_")}
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "chat", *arguments],
            cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=_of_its_own,
            env=kept | {"TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"} | environment,
        )  # fmt: skip
        os.close(theirs)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def press(self, key: str, *words: str) -> None:
        """As a person does: once more if nothing happens.

        Python's input() misses a signal between its prompt and its wait, until the next key.
        """
        for _ in range(10):
            self.type(key)
            with contextlib.suppress(AssertionError):
                self.until(*words, seconds=SECONDS / 10)
                return
        raise AssertionError(self.shown)

    def until(self, *words: str, seconds: float = SECONDS) -> str:
        """What is shown up to these words, in order, that were not waited for before."""
        deadline, at = time.monotonic() + seconds, 0
        while True:
            places = [self.shown.find(word, at) for word in words]
            if min(places) >= 0:
                end = max(place + len(word) for place, word in zip(places, words, strict=True))
                shown, self.shown = self.shown[:end], self.shown[end:]
                return shown
            assert time.monotonic() < deadline, self.shown
            ready, _, _ = select.select([self._ours], [], [], 1.0)
            if ready:
                self.shown += os.read(self._ours, 65_536).decode(errors="replace")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str, **environment: str) -> Terminal:
        opened.append(Terminal(*arguments, **environment))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_a_conversation_on_a_terminal(
    terminal: Callable[..., Terminal], start_server: Callable[..., servers.Server]
) -> None:
    server = start_server("valkey-9.1")
    talk = terminal("--url", server.url, **NO_SERVICE)
    talk.until("Nothing is changed from here.", "redis-oncall> ")
    talk.type("how is memory?\n")
    talk.until("are used", "by rules", "redis-oncall> ")
    talk.type("half a quest")
    talk.until("half a quest")  # else Ctrl-C discards what readline was told is there to read
    talk.press("\x03", "(dropped; Ctrl-D leaves)", "redis-oncall> ")  # Ctrl-C
    talk.type("\n")
    talk.until("redis-oncall> ")
    talk.type("\x1b[A\n")  # arrow up: the earlier question
    talk.until("are used", "redis-oncall> ")
    talk.type("\x04")  # Ctrl-D
    assert talk.process.wait(SECONDS) == 0


def test_ctrl_c_drops_an_answer_under_way_and_the_conversation_goes_on(
    terminal: Callable[..., Terminal], start_server: Callable[..., servers.Server]
) -> None:
    server = start_server("valkey-9.1")
    talk = terminal("--url", server.url, **NO_SERVICE)
    talk.until("redis-oncall> ")
    talk.type("is it healthy?\n")  # samples for seconds
    talk.until("looking at")
    os.killpg(talk.process.pid, signal.SIGINT)
    talk.until("(dropped; Ctrl-D leaves)", "redis-oncall> ")
    talk.type("what is hz?\n")
    talk.until("hz is ", "redis-oncall> ")
    talk.type("exit\n")
    assert talk.process.wait(SECONDS) == 0
