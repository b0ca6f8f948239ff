"""An incident on a terminal, from its alert to its end: a real service, server and terminal."""

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from evals import servers
from tests.acceptance.program import run, started
from tests.api.process import PEOPLE, Oncall, fill, setting_of
from tests.close_samples import LONGEST_WAIT
from tests.forked import Forked

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def oncall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oncall]:
    build = servers.BUILDS[-1]
    path = servers.binary(build)
    assert path is not None
    server = servers.start(build, path, ["--maxmemory", "24mb"])
    fill(server.port)
    folder = tmp_path_factory.mktemp("terminal")
    running = Oncall(folder, server.port, {"verify_for": "2s"}, **{LONGEST_WAIT: "1"})
    try:
        running.start()
        yield running
        running.stop()
    finally:
        servers.stop(server)


class Pty:
    """A terminal of 80 columns: what was ever shown on it."""

    def __init__(self, folder: Path) -> None:
        self._master, self._slave = pty.openpty()
        size = struct.pack("HHHH", 40, 80, 0, 0)
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, size)
        self.path = folder / "screen"
        self.path.symlink_to(os.ttyname(self._slave))
        self._parts: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while part := os.read(self._master, 65_536):
                self._parts.append(part)

    def close(self) -> str:
        os.close(self._slave)
        self._reader.join(5)
        os.close(self._master)
        return b"".join(self._parts).decode()


def environment(oncall: Oncall) -> dict[str, str]:
    return {
        "REDIS_ONCALL_URL": str(oncall.client.base_url).rstrip("/"),
        "REDIS_ONCALL_TOKEN": PEOPLE["alice"], "PATH": os.environ["PATH"], "TERM": "xterm",
        "PYTHONIOENCODING": "utf-8",
    }  # fmt: skip


def in_a_script(oncall: Oncall, incident: str) -> None:
    """It may wait, and gets the action as it ended."""
    plan = oncall.incident(incident).plan
    other = next(one for one in plan.actions if one.executable and one.status == "proposed")
    name = {"R0": (), "R1": ()}.get(other.risk, ("--confirm", "cache"))
    done = run(
        "approve", incident, other.id, *(name or ("--yes",)), "--wait", **environment(oncall)
    )
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout)
    assert (ended["id"], ended["status"]) == (other.id, "verified"), ended["comment"]
    assert f"{other.id} being applied" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.long
def test_followed_from_its_alert_to_its_end(oncall: Oncall, tmp_path: Path) -> None:
    incident = oncall.alert()
    ours, files = environment(oncall), [tmp_path / name for name in ("lines", "json", "all")]
    tails = [
        Forked(["tail", *words], ours, file)
        for words, file in zip(([incident], [incident, "--json"], []), files, strict=True)
    ]
    action = setting_of(oncall.reaches(incident, "awaiting_approval"))
    screen = Pty(tmp_path)
    approving = Forked(["approve", incident, action.id, "--yes"], ours, screen.path)
    code, shown = approving.wait(60), screen.close()
    assert code == 0, shown
    in_a_script(oncall, incident)
    without_blocks = started("show", incident, **ours | {"PYTHONIOENCODING": "ascii"})
    oncall.reject_rest(incident)
    assert [tail.wait(30) for tail in tails[:2]] == [0, 0], "they end with the incident"
    oncall.wait(lambda: "needs human" in files[2].read_text() or "resolved" in files[2].read_text(),
                "the tail of all tells its end")  # fmt: skip
    tails[2].send_signal(2)
    assert tails[2].wait(60) == 130

    assert without_blocks.returncode == 0, without_blocks.stderr
    for told in ("[####", "^75%", "%  #", "session:", "What it changed"):
        assert told in without_blocks.stdout
    assert "fingerprint" not in shown, "no JSON below what was watched"
    plain = ESCAPES.sub("", shown)
    for told in (f"{action.id} is being applied", f"{action.id} is watched ━", " of 2 s",
                 f"{action.id} verified: ", "before and after, watched for",
                 "memory of its limit"):  # fmt: skip
        assert told in plain, told
    assert re.search(r"[▁-█]+\|[▁-█]+  -\S+ m?s to ", plain), "a curve, with its times"
    assert "\x1b[" in shown

    lines, everything = files[0].read_text(), files[2].read_text()
    assert lines.replace("\n", "").isprintable()
    for told in ("investigating", " memory_info: ", "found: ", f"plan: {action.id} (R1)",
                 f"{action.id} approved by alice", f"{action.id} verified"):  # fmt: skip
        assert told in lines
        assert told in everything
    assert all(re.match(r"2\d{3}-\d\d-\d\d \d\d:\d\d:\d\d  \S", line) for line in
               lines.splitlines())  # fmt: skip
    assert incident in everything
    documents = [json.loads(line) for line in files[1].read_text().splitlines()]
    assert [one["id"] for one in documents] == list(range(1, len(documents) + 1))
    assert documents[-1]["event"] == "end"
    assert all(one["at"] for one in documents)
