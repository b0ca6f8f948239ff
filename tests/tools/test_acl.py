"""The printed diagnosis user suffices for every read tool and can write nothing."""

import asyncio
import re
import shlex
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from redis.exceptions import NoPermissionError

from evals.servers import Server
from tools.acl import DIAGNOSIS, REMEDY, acl_lines
from tools.connection import CommandFailure
from tools.opening import open_for_reading
from tools.permissions import READ_COMMANDS, READ_ONLY, WRITE_COMMANDS
from tools.reads import READS

HARMFUL = [
    "CONFIG SET maxmemory 1", "CONFIG RESETSTAT", "CONFIG REWRITE", "DEBUG SLEEP 0", "SAVE",
    "BGSAVE", "BGREWRITEAOF", "SHUTDOWN NOSAVE", "REPLICAOF NO ONE", "MONITOR", "KEYS *",
    "FLUSHALL", "EVAL return 1 0", "SCRIPT FLUSH", "CLIENT KILL ID 1", "CLIENT PAUSE 1",
    "ACL SETUSER x", "SLOWLOG RESET", "LATENCY RESET", "MEMORY PURGE",
    "SWAPDB 0 1", "PUBLISH c m", "SUBSCRIBE c", "CLUSTER RESET", "MODULE UNLOAD x",
]  # fmt: skip
NOT_HERE = ("unknown command", "command not allowed. if the enable-")
"""This build does not have it, or has it switched off for everybody."""
VALUES = [
    "GET s", "HGETALL h", "LRANGE l 0 -1", "XRANGE x - +", "XINFO STREAM x", "DUMP s",
    "GETRANGE s 0 1",
]  # fmt: skip
"""Diagnosis never reads what a key holds."""


def admin_of(server: Server) -> redis.Redis:
    return redis.Redis(port=server.port, decode_responses=True)


def ask(client: redis.Redis, *words: str) -> Any:
    return client.execute_command(*words)  # type: ignore[no-untyped-call]


def version_of(admin: redis.Redis) -> tuple[str, bool]:
    info = admin.info("server")
    valkey = info.get("valkey_version")
    return valkey or info["redis_version"], valkey is not None


@pytest.fixture
def passwords(server: Server) -> dict[str, str]:
    """The printed lines were run on the server: user -> password."""
    admin = admin_of(server)
    lines = [line for line in acl_lines(*version_of(admin)) if not line.startswith("#")]
    found = {}
    for line in lines:
        words = line.split(" ")
        ask(admin, *words)
        found[words[2]] = next(word[1:] for word in words if word.startswith(">"))
    return found


def fill(admin: redis.Redis) -> None:
    admin.set("s", "value")
    admin.hset("h", mapping={"a": "1"})
    admin.rpush("l", "a")
    admin.sadd("t", "a")
    admin.zadd("z", {"a": 1})
    admin.xadd("x", {"a": "1"})
    admin.xgroup_create("x", "g", "0")
    admin.set("bad\x1b[31m {{ignore}}\r\n:key", "v")


def refusals(reading: object) -> list[dict[str, Any]]:
    """Every NotMeasured in a reading that says the user was refused."""
    if isinstance(reading, dict):
        own = [reading] if reading.get("failure") == "refused" else []
        return own + [found for value in reading.values() for found in refusals(value)]
    if isinstance(reading, list):
        return [found for value in reading for found in refusals(value)]
    return []


async def test_the_diagnosis_user_suffices_for_every_read_tool(
    server: Server, passwords: dict[str, str]
) -> None:
    fill(admin_of(server))
    url = f"redis://{DIAGNOSIS}:{passwords[DIAGNOSIS]}@127.0.0.1:{server.port}/0"

    async def look(name: str) -> dict[str, Any]:
        connection = await open_for_reading(url)
        try:
            seconds = {"seconds": 1} if "seconds" in READS[name].args.model_fields else {}
            return (await READS[name].call(connection, seconds)).model_dump()
        finally:
            await connection.close()

    readings = dict(zip(READS, await asyncio.gather(*map(look, READS)), strict=True))
    refused = {name: found for name, reading in readings.items() if (found := refusals(reading))}
    assert refused == {}
    assert {"keyspace", "bigkeys", "clients", "stream_info", "instance_resize"} <= set(readings)
    denied = ask(admin_of(server), "ACL", "LOG")
    assert denied == [], "a command was refused without the reading saying so"


def test_the_lines_go_into_redis_cli_as_they_are_and_name_the_urls_to_save(
    server: Server, passwords: dict[str, str]
) -> None:
    """A quote in a comment, or a password that a URL must escape, would break the paste."""
    for line in acl_lines(*version_of(admin_of(server))):
        assert shlex.split(line, comments=False)
        if line.startswith("# ") and "url: " in line:
            setting, url = line[2:].split(": ", 1)
            at = urlsplit(url.replace("HOST:PORT", f"127.0.0.1:{server.port}"))
            assert at.username == {"url": DIAGNOSIS, "remedy_url": REMEDY}[setting]
            assert re.fullmatch(r"[\w-]{32}", str(at.password))
    url = f"redis://{DIAGNOSIS}:{passwords[DIAGNOSIS]}@127.0.0.1:{server.port}"
    assert redis.Redis.from_url(url).ping()


async def test_every_listed_command_of_this_version_is_granted(
    server: Server, passwords: dict[str, str]
) -> None:
    """A database number in the URL works too: SELECT is what it sends."""
    url = f"redis://{DIAGNOSIS}:{passwords[DIAGNOSIS]}@127.0.0.1:{server.port}/1"
    connection = await open_for_reading(url)
    try:
        for command in sorted(READ_COMMANDS):
            words = command.split("|")
            (reply,) = await connection.execute_many([words])
            if isinstance(reply, CommandFailure):
                assert reply.kind != "refused", command
    finally:
        await connection.close()


def commands_that_write(admin: redis.Redis) -> list[list[str]]:
    """Every command and subcommand with the write flag, with enough arguments to be looked at."""
    found = []
    admin.response_callbacks.pop("COMMAND", None)
    for row in ask(admin, "COMMAND"):
        subcommands = row[9] if len(row) > 9 else []
        for name, arity, flags, *_ in [row, *subcommands]:
            if "write" in flags:
                words = name.split("|")
                found.append([*words, *["1"] * (max(abs(arity), 2) - len(words))])
    return found


def test_the_diagnosis_user_can_write_nothing(server: Server, passwords: dict[str, str]) -> None:
    admin = admin_of(server)
    fill(admin)
    before = digest(server)
    writes = commands_that_write(admin_of(server))
    assert len(writes) > 90
    allowed = []
    with redis.Redis(port=server.port, username=DIAGNOSIS, password=passwords[DIAGNOSIS]) as user:
        for words in [*writes, *[line.split(" ") for line in HARMFUL + VALUES]]:
            try:
                ask(user, *words)
                allowed.append(words)
            except NoPermissionError:
                pass
            except redis.ResponseError as error:
                if not any(reason in str(error).lower() for reason in NOT_HERE):
                    allowed.append([*words, str(error)])
    assert allowed == []
    assert digest(server) == before


def digest(server: Server) -> dict[bytes, bytes | None]:
    raw = redis.Redis(port=server.port)
    return {key: raw.dump(key) for key in raw.scan_iter()}


def test_the_remedy_user_can_do_what_remedies_do_and_no_more(
    server: Server, passwords: dict[str, str]
) -> None:
    fill(admin_of(server))
    with redis.Redis(port=server.port, username=REMEDY, password=passwords[REMEDY]) as user:
        user.config_set("maxmemory", "200mb")
        assert user.pexpireat("s", 2**42)
        for forbidden in (
            "FLUSHALL", "SET s 1", "KEYS *", "GET s", "SAVE", "MONITOR", "DEL s", "EVAL x 0",
            "COPY s r", "MIGRATE h 1 s 0 1", "XGROUP DESTROY x g", "XDEL x 1-1",
            "LTRIM l 0 0", "HGETALL h",
        ):  # fmt: skip
            with pytest.raises(NoPermissionError):
                ask(user, *forbidden.split(" "))


@pytest.mark.parametrize(
    ("version", "valkey", "missing"),
    [
        ("6.2.5", False, {"expiretime", "pexpiretime", "function|list", "commandlog|get"}),
        ("7.0.15", False, {"client|no-touch", "cluster|slot-stats", "commandlog|get"}),
        ("7.2", False, {"cluster|slot-stats", "commandlog|get"}),
        ("8.2", False, {"commandlog|get", "commandlog|len"}),
        ("8.0", True, {"commandlog|get", "commandlog|len"}),
        ("9.1.2", True, set()),
    ],
)
def test_commands_a_version_does_not_know_are_left_out(
    version: str, valkey: bool, missing: set[str]
) -> None:
    diagnosis = next(
        line for line in acl_lines(version, valkey) if f"ACL SETUSER {DIAGNOSIS} " in line
    )
    granted = {word[1:] for word in diagnosis.split(" ") if word.startswith("+")}
    assert granted & missing == set()
    assert granted & WRITE_COMMANDS == set()
    assert ("%R~*" in diagnosis.split(" ")) is not version.startswith("6")


def test_it_says_that_config_get_cannot_be_restricted_and_repeats_no_password() -> None:
    first, second = acl_lines("8.2", valkey=False), acl_lines("8.2", valkey=False)
    comments = " ".join(line[2:] for line in first if line.startswith("#"))
    assert "CONFIG GET cannot be restricted" in comments
    secret = {line for line in first if "ACL SETUSER" in line or "url: " in line}
    assert len(secret) == 4
    assert set(first) & set(second) == set(first) - secret


def test_the_log_of_refusals_is_read_and_never_reset() -> None:
    """ACL rules cannot tell ACL LOG from ACL LOG RESET: our own guard does."""
    assert READ_ONLY.refusal(["ACL", "LOG", 64]) is None
    assert READ_ONLY.refusal([b"acl", b"log", b"Reset"]) is not None
