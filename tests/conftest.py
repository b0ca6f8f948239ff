"""Shared fixtures: real servers of every build that is installed here."""

import contextlib
import gc
import importlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import hypothesis
import pytest

# openai speaks httpx2; respx patches httpx and would silently miss it.
httpx2.alias_httpx()

from evals import servers  # noqa: E402

# A busy machine is no failure: what may take how long is measured elsewhere.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.register_profile("long", deadline=None, max_examples=20_000)
hypothesis.settings.load_profile("tests")

ROOT = Path(__file__).parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """What is loaded stays: the garbage collector need look through it neither now nor later."""
    gc.disable()
    load_a_share_first(session)
    yield
    gc.freeze()
    gc.enable()


def load_a_share_first(session: pytest.Session) -> None:
    """Of the whole suite, each worker another one.

    pytest compiles every module of tests once, for its assertions, and keeps that: where nothing
    is kept yet, the workers share that work instead of doing all of it each.
    """
    told = getattr(session.config, "workerinput", None)
    if told is None or [Path(each).resolve() for each in session.config.args] != [ROOT / "tests"]:
        return
    modules = sorted((ROOT / "tests").rglob("test_*.py"))
    for path in modules[int(told["workerid"][2:]) :: told["workercount"]]:
        # What fails to load is told by the collection.
        with contextlib.suppress(Exception):
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `long` come early, a share to each worker: none is begun when the rest is done.

    They wait more than they compute, so others are tried between them, and the cores are busy. With
    `--dist worksteal` a worker begins with a part of the list, as large as the others'.
    """
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    long = [item for item in items if item.get_closest_marker("long")]
    others = iter([item for item in items if not item.get_closest_marker("long")])
    parts = [long[worker::workers] for worker in range(workers)]
    left = len(items)
    for place, part in enumerate(parts):
        size = left // (workers - place)
        short = list(itertools.islice(others, max(0, size - len(part))))
        left -= len(part) + len(short)
        parts[place] = _spread(part, short)
    items[:] = [*itertools.chain(*parts), *others]


def _spread(long: list[pytest.Item], short: list[pytest.Item]) -> list[pytest.Item]:
    """The long ones evenly among the first two thirds of the others."""
    between = 2 * len(short) // (3 * max(1, len(long)))
    rest = iter(short)
    mixed = [one for each in long for one in (each, *itertools.islice(rest, between))]
    return [*mixed, *rest]


@pytest.fixture(params=servers.BUILDS)
def build(request: pytest.FixtureRequest) -> str:
    """Each of the four server builds; skipped, visibly, where one is not installed."""
    name: str = request.param
    if servers.binary(name) is None:
        pytest.skip(f"{name} is not installed here (Debian package redis-server)")
    return name


@pytest.fixture
def start_server() -> Iterator[Callable[..., servers.Server]]:
    """`start_server(build, *arguments)`; all are stopped at the end of the test."""
    started: list[servers.Server] = []

    def start(build: str, *arguments: str) -> servers.Server:
        path = servers.binary(build)
        if path is None:
            pytest.skip(f"{build} is not installed here (Debian package redis-server)")
        server = servers.start(build, path, arguments)
        started.append(server)
        return server

    yield start
    for server in started:
        servers.stop(server)


@pytest.fixture
def close_samples(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One second lies between two samples of a server, not five: where no rate is looked at.

    Or whatever the module says is its LONGEST_WAIT. In processes that are forked as well.
    """
    from tests.close_samples import LONGEST_WAIT, shortened
    from tools.connection import LiveConnection

    longest = getattr(request.module, "LONGEST_WAIT", 1.0)
    monkeypatch.setenv(LONGEST_WAIT, str(longest))
    monkeypatch.setattr(LiveConnection, "wait", shortened(LiveConnection.wait, longest))


@pytest.fixture
def server(build: str, start_server: Callable[..., servers.Server]) -> servers.Server:
    """A fresh, empty server of each build."""
    return start_server(build)
