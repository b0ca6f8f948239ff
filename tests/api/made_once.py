"""What is the same in every service of a process, made once for all tests of it.

A service starts once in a process and works for weeks; here hundreds start in one, and most of
what they compute is what the one before has computed: the same routes of the same functions, the
same statements in SQL, the same migrations and runbooks read from the same files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from fastapi import APIRouter, FastAPI
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from starlette.routing import BaseRoute

from agent import runbook_library
from agent.runbook import Runbook
from api.store import database, migrate


@contextmanager
def made_once() -> Iterator[None]:
    """For as long as it is entered."""
    statements: dict[Any, Any] = {}
    include = FastAPI.include_router
    included: dict[str, BaseRoute] = {}
    load = runbook_library.load_runbook

    def engine(*args: Any, **options: Any) -> AsyncEngine:
        return create_async_engine(
            *args, execution_options={"compiled_cache": statements}, **options
        )

    def include_once(app: FastAPI, router: APIRouter, **options: Any) -> None:
        known = f"{id(router)} {sorted(options.items())}"
        if known in included:
            app.router.routes.append(included[known])
        else:
            include(app, router, **options)
            included[known] = app.router.routes[-1]

    scripts = cache(ScriptDirectory)
    packaged = cache(load)

    def runbook(path: Path) -> Runbook:
        return packaged(path) if path.parent == runbook_library.PACKAGED else load(path)

    with pytest.MonkeyPatch.context() as patch:
        # What is compiled is kept by engine, mapper, and dialect, of which each engine has one.
        patch.setattr(DefaultDialect, "__eq__", lambda one, other: type(one) is type(other))
        patch.setattr(DefaultDialect, "__hash__", lambda one: hash(type(one)))
        patch.setattr(database, "create_async_engine", engine)
        patch.setattr(FastAPI, "include_router", include_once)
        patch.setattr(runbook_library, "load_runbook", runbook)
        patch.setattr(migrate, "ScriptDirectory", scripts)
        patch.setattr(
            ScriptDirectory,
            "from_config",
            lambda config: scripts(config.get_main_option("script_location")),
        )
        yield
