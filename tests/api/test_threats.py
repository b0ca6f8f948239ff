"""The threat model names what holds each line, and that is there."""

import re
from pathlib import Path


def test_every_line_of_defence_names_a_test_that_exists() -> None:
    page = Path("api/THREATS.md").read_text()
    rows = re.findall(r"^\| .+ \| .+ \| (.+) \|$", page.split("## STRIDE")[1], re.MULTILINE)
    named = [row for row in rows if row not in ("test", "none needed")]
    assert len(named) > 30
    there = {path.name for path in Path("tests").rglob("test_*.py")}
    for row in named:
        told = re.findall(r"`([^`]+)`", row)
        assert told, row
        files = [name for name in told if name.endswith(".py")]
        assert [name for name in files if name not in there] == []
        folders = [name for name in told if name.startswith("tests/")]
        assert [name for name in folders if not Path(name).is_dir()] == []
