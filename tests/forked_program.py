"""What a forked process of the program has loaded before it begins."""

import gc
import os
import tempfile

# Its metrics are loaded as those of a `serve` are that has a worker beside it.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="redis-oncall-test-")

import burner_redis
import docket
import uvicorn.lifespan.on
import uvicorn.loops.auto
from langgraph.checkpoint.postgres import aio as checkpoints_postgresql
from langgraph.checkpoint.sqlite import aio as checkpoints_sqlite
from sqlalchemy.orm import configure_mappers

from agent import graph, run, runbook_library
from api import app, worker
from api.cli import client, gate, oneshot, service
from api.cli import main as commands
from api.console import pages

LOADED = (
    app, client, commands, gate, graph, oneshot, run, runbook_library, service, worker,
    # What they load when they begin.
    burner_redis, checkpoints_postgresql, checkpoints_sqlite, docket, uvicorn,
)  # fmt: skip
# What they make once.
configure_mappers()
pages.warm()
runbook_library.load_library(())
gc.freeze()
