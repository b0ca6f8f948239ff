"""Scripted models behind a real endpoint: OpenAI's protocol on a free port of loopback.

So that everything but the model is real: our client, its budgets, HTTP, the conversation, the
evidence check and the arbitration.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from agent.budget import ModelSettings
from agent.model import Model
from agent.model_reply import CHARACTERS_PER_TOKEN, tokens
from agent.reasoner import OpenAIReasoner
from agent.runbook import Library
from evals.result import Result
from evals.run import work
from evals.scripted_models import SCRIPTS, Calls, Script
from evals.truth import RecordedIncident

ESTIMATED = f"estimated: {CHARACTERS_PER_TOKEN:g} characters each"
PREFIX = "scripted:"
"""A model whose name begins so is one of ours: `scripted:right`."""


def script_named(model: str) -> str | None:
    """The script a model's name asks for; None if it is no scripted model.

    Raises ValueError for a script that does not exist.
    """
    if not model.startswith(PREFIX):
        return None
    name = model.removeprefix(PREFIX)
    if name not in SCRIPTS:
        raise ValueError(f"'{model}' is not one of {', '.join(PREFIX + one for one in SCRIPTS)}")
    return name


def label(model: str) -> str:
    """The model's name as reports show it: nobody takes a script for a model."""
    return f"scripted: {script_named(model)}" if model.startswith(PREFIX) else model


def tokens_of(model: str) -> str:
    """Where the tokens of a report come from."""
    estimated = model.startswith(PREFIX)
    return ESTIMATED if estimated else "as the endpoint reports them, estimated where it does not"


async def work_by_script(recorded: RecordedIncident, library: Library, name: str) -> Result:
    """One incident, worked with a scripted model at an endpoint of its own."""
    async with serving(SCRIPTS[name](recorded, library)) as base_url:
        model = Model(ModelSettings(model=PREFIX + name, base_url=base_url))
        try:
            return await work(recorded, library, OpenAIReasoner(model, library))
        finally:
            await model.close()


@contextlib.asynccontextmanager
async def serving(script: Script) -> AsyncIterator[str]:
    """The base URL of an endpoint whose model is this script."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Route

    routes = [Route("/v1/chat/completions", partial(_complete, script), methods=["POST"])]
    config = uvicorn.Config(
        Starlette(routes=routes), lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    # Bound before it serves: whoever is early waits in the backlog.
    listening = socket.create_server(("127.0.0.1", 0))
    serve = asyncio.create_task(server._serve([listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        await serve
        listening.close()


async def _complete(script: Script, request: Any) -> Any:
    from starlette.responses import JSONResponse

    asked = await request.json()
    return JSONResponse(completion(asked, script.answer(asked)))


def completion(request: Mapping[str, Any], calls: Calls) -> dict[str, Any]:
    """A chat completion that calls these functions, with an estimate of what it would cost."""
    called = [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for number, (name, arguments) in enumerate(calls, 1)
    ]
    read = tokens(request.get("messages", [])) + tokens(request.get("tools", []))
    written = tokens(called)
    return {
        "id": "scripted",
        "object": "chat.completion",
        "created": 0,
        "model": request.get("model", ""),
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "message": {"role": "assistant", "content": None, "tool_calls": called},
            }
        ],
        "usage": {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        },
    }
