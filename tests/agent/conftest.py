"""A case to reason about, and a reasoner to do it."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agent.budget import ModelSettings
from agent.model import Model
from agent.reasoner import OpenAIReasoner
from tests.agent.desk import Desk, library
from tests.agent.endpoint import BASE, KEY


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
