"""Rules of the house that no linter knows."""

import re
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from agent.graph import build_graph
from api.cli.main import app
from tools.reads import READS
from tools.remedies.catalogue import REMEDIES

ROOT = Path(__file__).parents[1]
PACKAGES = ("agent", "api", "evals", "tools", "tests")
BANNED = {"utils", "helpers", "common", "core", "manager", "util", "misc"}


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


def test_no_file_passes_400_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in sources()
        if (count := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


def test_no_module_is_named_after_nothing() -> None:
    assert [path for path in sources() if path.stem in BANNED] == []


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for package in ("agent", "api", "tools")
        for path in (ROOT / package).rglob("*.py")
        if "os.environ" in path.read_text() or "os.getenv" in path.read_text()
    }
    # These hand it on to a process that they start.
    hands_on = {"api/cli/demo.py", "api/own_worker.py", "api/shared_metrics.py"}
    assert readers <= {"api/settings.py"} | hands_on


def test_no_folder_takes_the_other_builds_away_from_its_tests() -> None:
    """`server` is each of the four builds. Where one is enough, the one module says so."""
    folders = list((ROOT / "tests").glob("*/conftest.py"))
    assert folders
    for path in folders:
        found = re.search(r"^(async )?def (server|build)\(", path.read_text(), re.MULTILINE)
        assert found is None, path


def test_every_read_states_its_source() -> None:
    assert [name for name, tool in READS.items() if "Source:" not in tool.description] == []


def test_readme_shows_the_real_graph() -> None:
    drawn = build_graph().get_graph().draw_mermaid().strip()
    assert drawn in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_remedies_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(app, ["remedies", "--markdown"]).output
    assert printed.count("\n") > len(REMEDIES)
    assert printed in (ROOT / "tools/remedies/README.md").read_text(encoding="utf-8")


def test_help_does_not_import_what_it_does_not_need() -> None:
    program = (
        "import sys; import api.cli.main; "
        "print([m for m in ('langgraph', 'openai', 'sqlalchemy', 'fastapi', 'redis', 'docket', "
        "'mcp') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
