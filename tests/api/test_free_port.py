"""`serve --port 0` says which port it has been given."""

import re
from pathlib import Path

import httpx2

from evals.servers import free_port
from tests.api.process import Oncall
from tests.forked import Forked


def test_the_port_that_was_free_is_told_once_it_answers(tmp_path: Path) -> None:
    oncall = Oncall(tmp_path, free_port())
    log = tmp_path / "serve.log"
    serving = Forked(["serve", "--port", "0", "--no-worker"], oncall._environment, log)
    try:
        told = oncall.wait(
            lambda: (
                log.exists()
                and re.search(r"^redis-oncall: (http://\S+:\d+)$", log.read_text(), re.M)
            ),
            "the port is told",
        )
        assert httpx2.get(f"{told[1]}/healthz").is_success
        assert ":0 " not in log.read_text()
    finally:
        serving.terminate()
        serving.wait(40)
        oncall.client.close()
