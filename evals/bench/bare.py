"""The least that could answer 202 after a commit: FastAPI, one connection, a commit per request.

`python -m evals.bench.bare PORT DATABASE`, where DATABASE is a file of SQLite or a postgresql://
URL. It knows no token, no target, no duplicate and no incident.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import aiosqlite
import psycopg
import uvicorn
from fastapi import Body, FastAPI


def bare(database: str) -> FastAPI:
    """The application."""
    one_at_a_time = asyncio.Lock()
    mark = "%s" if database.startswith("postgresql://") else "?"

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        connection: Any
        if mark == "%s":
            connection = await psycopg.AsyncConnection.connect(database)
        else:
            connection = await aiosqlite.connect(database)
            await connection.execute("PRAGMA journal_mode=WAL")
            await connection.execute("PRAGMA synchronous=FULL")
        await connection.execute("CREATE TABLE bare (body TEXT NOT NULL)")
        await connection.commit()
        app.state.connection = connection
        yield
        await connection.close()

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/alerts/alertmanager", status_code=202)
    async def post(body: Annotated[Any, Body()]) -> dict[str, bool]:
        async with one_at_a_time:
            insert = f"INSERT INTO bare (body) VALUES ({mark})"  # noqa: S608 - a placeholder
            await app.state.connection.execute(insert, (json.dumps(body),))
            await app.state.connection.commit()
        return {"accepted": True}

    return app


if __name__ == "__main__":
    uvicorn.run(bare(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), log_config=None)
