"""A case to reason about, a reasoner to do it, and a server to look at."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from agent.budget import ModelSettings
from agent.model import Model
from agent.reasoner import OpenAIReasoner
from evals.servers import Server
from tests.agent.desk import Desk, library
from tests.agent.endpoint import BASE, KEY
from tools.connection import Connection
from tools.opening import open_for_reading


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def reasoner() -> AsyncIterator[Callable[..., OpenAIReasoner]]:
    made: list[Model] = []

    def make(**settings: Any) -> OpenAIReasoner:
        values: dict[str, Any] = {"model": "test", "api_key": KEY, "base_url": BASE}
        made.append(Model(ModelSettings(**(values | settings))))
        return OpenAIReasoner(made[-1], library())

    yield make
    for model in made:
        await model.close()


@pytest.fixture
def client(server: Server) -> Iterator["redis.Redis"]:
    with closing(redis.Redis(port=server.port, protocol=2)) as opened:
        yield opened


@pytest.fixture
async def reading(server: Server) -> AsyncIterator[Connection]:
    opened = await open_for_reading(server.url)
    yield opened
    await opened.close()
