"""Scripts and functions. Source: INFO memory, FUNCTION LIST/STATS (7.0+). Never their code."""

from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection, Reply, parse_info
from tools.memory import with_later_names
from tools.reading import InfoReading, Measured, NotMeasured, Reading
from tools.replies import integer, items, mapping, text


class LibraryRow(Reading):
    """One function library."""

    name: str
    engine: str
    functions: list[str]


class Scripts(InfoReading):
    """Script caches, in bytes."""

    number_of_cached_scripts: Measured[int]
    used_memory_vm_eval: Measured[int]
    """Lua VM, outside used_memory. 6.2: used_memory_lua."""
    used_memory_scripts_eval: Measured[int]
    number_of_functions: Measured[int]
    number_of_libraries: Measured[int]
    used_memory_functions: Measured[int]
    evicted_scripts: Measured[int]
    blocked_by: str = ""
    """`BUSY`: what every other command is answered while a script runs for too long; else empty."""
    running_script: Measured[str]
    """Name and milliseconds of a running function or script; empty: none."""
    libraries: Measured[list[LibraryRow]]


class ScriptsArguments(Arguments):
    """None."""


MOST_LIBRARIES = 50
MOST_FUNCTIONS = 50


async def scripts(connection: Connection, args: ScriptsArguments) -> Scripts:
    """Scripts and functions the server holds, in bytes, and the one that runs. Never their code.

    Source: INFO memory, INFO stats, FUNCTION STATS, FUNCTION LIST (7.0 and later).
    """
    memory, counters = await connection.execute_many([("INFO", "memory"), ("INFO", "stats")])
    if isinstance(memory, CommandFailure):
        if memory.kind != "busy":
            raise memory
        return await _while_busy(connection)
    info = with_later_names(parse_info(memory))
    info |= {} if isinstance(counters, CommandFailure) else parse_info(counters)
    running, listed = await _functions(connection, info)
    return Scripts.from_info(info, running_script=_running(running), libraries=_libraries(listed))


async def _while_busy(connection: Connection) -> Scripts:
    """What is known while a script runs for longer than busy-reply-threshold.

    FUNCTION STATS tells the name of a function; while EVAL runs it is refused like the rest.
    """
    try:
        running = _running(await connection.execute("FUNCTION", "STATS"))
    except CommandFailure as failure:  # while EVAL runs; 6.2 has no functions
        running = failure.as_not_measured()
    refused = NotMeasured(not_measured="FUNCTION LIST", because="a script runs", failure="busy")
    return Scripts.from_info({}, blocked_by="BUSY", running_script=running, libraries=refused)


async def _functions(connection: Connection, info: dict[str, str]) -> list[Reply | CommandFailure]:
    if "number_of_functions" not in info:  # asking would count as an error of the server's
        unknown = CommandFailure("unknown_command", "FUNCTION", "functions came with version 7.0")
        return [unknown, unknown]
    return await connection.execute_many([("FUNCTION", "STATS"), ("FUNCTION", "LIST")])


def _running(reply: Reply | CommandFailure) -> Measured[str]:
    if isinstance(reply, CommandFailure):
        return reply.as_not_measured()
    script = mapping(mapping(reply).get("running_script"))
    # Its `command` holds arguments: values.
    return f"{text(script['name'])} {integer(script.get('duration_ms'))} ms" if script else ""


def _libraries(reply: Reply | CommandFailure) -> Measured[list[LibraryRow]]:
    if isinstance(reply, CommandFailure):
        return reply.as_not_measured()
    return [_library(mapping(raw)) for raw in items(reply)[:MOST_LIBRARIES]]


def _library(raw: dict[str, Reply]) -> LibraryRow:
    functions = items(raw.get("functions"))[:MOST_FUNCTIONS]
    return LibraryRow(
        name=text(raw.get("library_name")),
        engine=text(raw.get("engine")),
        functions=[text(mapping(function).get("name")) for function in functions],
    )
