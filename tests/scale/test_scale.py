"""What `python -m tests.scale` walks over."""

import subprocess
import sys

import pytest


@pytest.mark.soak
@pytest.mark.long
def test_a_million_prefixes_stay_within_memory() -> None:
    command = [sys.executable, "-m", "tests.scale"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout.split()[-2]) < 150, done.stdout
