"""What a forked process of the program has loaded before it begins."""

import gc
import os
import tempfile

# Its metrics are loaded as those of a `serve` are that has a worker beside it.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="redis-oncall-test-")

from agent import graph, run, runbook_library
from api import app, worker
from api.cli import client, gate, oneshot, service
from api.cli import main as commands

LOADED = (app, client, commands, gate, graph, oneshot, run, runbook_library, service, worker)
gc.freeze()
