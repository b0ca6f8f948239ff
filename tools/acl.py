"""The two identities as `ACL SETUSER` lines, from the tables of `tools/permissions.py`.

ACL SETUSER rejects a whole line for one command the server does not know, so each line grants
what its version has. It is enough to know when a command came, as long as nothing older is asked.
"""

import secrets
from collections.abc import Iterable

from tools.permissions import READ_COMMANDS, WRITE_COMMANDS

DIAGNOSIS = "redis-oncall-diagnosis"
REMEDY = "redis-oncall-remedy"

Version = tuple[int, int]
NEVER: Version = (999, 0)
# Command -> (Redis, Valkey) that brought it.
SINCE: dict[str, tuple[Version, Version]] = {
    "expiretime": ((7, 0), (7, 2)),
    "pexpiretime": ((7, 0), (7, 2)),
    "function|stats": ((7, 0), (7, 2)),
    "function|list": ((7, 0), (7, 2)),
    "function|dump": ((7, 0), (7, 2)),
    "function|load": ((7, 0), (7, 2)),
    "function|delete": ((7, 0), (7, 2)),
    "function|kill": ((7, 0), (7, 2)),
    "client|no-touch": ((7, 2), (7, 2)),
    "cluster|slot-stats": ((8, 2), (8, 0)),
    # Valkey has merged it after 9.1; in which version it comes is not known yet.
    "hotkeys|get": ((8, 6), NEVER),
    "hpexpiretime": ((7, 4), (9, 0)),
    "hpexpireat": ((7, 4), (9, 0)),
    "commandlog|get": (NEVER, (8, 1)),
    "commandlog|len": (NEVER, (8, 1)),
}
# 6.2 knows no subcommands: it takes any first argument of a command it has, and granting those
# it lacks makes it answer "unknown subcommand" where it would say NOPERM.
UNSEEN_BY_6_2 = frozenset({"client|no-touch", "cluster|slot-stats"})
CONNECTING = frozenset({"select"})
"""What a URL with a database number sends before anything else."""


def acl_lines(version: str, valkey: bool) -> list[str]:
    """Comments and the two ACL SETUSER lines for a server version such as `7.0` or `8.2.3`.

    Passwords are random, new with every call. Raises ValueError for what is not a version.
    """
    major, _, rest = version.partition(".")
    at = (int(major), int(rest.partition(".")[0] or "0"))
    reads = _known(READ_COMMANDS | CONNECTING, at, valkey)
    both = _known(READ_COMMANDS | WRITE_COMMANDS | CONNECTING, at, valkey)
    # Key permissions by direction came with 7.0. Before, reading is what the commands allow.
    readable = "%R~*" if at >= (7, 0) else "~*"
    return [
        f"# For {'Valkey' if valkey else 'Redis'} {version}. Save this output first: the passwords",
        "# are new with every call and kept nowhere else. Lines without # go into redis-cli, on",
        "# every node; each replaces a user of that name. ACL SAVE (with an aclfile) or CONFIG",
        "# REWRITE keeps them over a restart.",
        "# Diagnosis: reads only, and no command that returns what a key holds. But SLOWLOG GET",
        "# shows arguments, of which redis-oncall keeps command and key, and CONFIG GET cannot be",
        "# restricted by parameter: this user could read requirepass and masterauth. redis-oncall",
        "# never asks. Nor can ACL LOG be granted without its RESET, which it never sends.",
        *_user(DIAGNOSIS, "url", readable, reads),
        "# Remedies: used for an approved action only. CONFIG SET cannot be restricted by",
        "# parameter either; redis-oncall sets only those on its list. Nor can ACLs bound XTRIM,",
        "# LPOP, HDEL and the like, which it sends in steps of at most some thousand elements.",
        *_user(REMEDY, "remedy_url", "~*", both),
    ]


def _known(commands: Iterable[str], at: Version, valkey: bool) -> list[str]:
    return sorted(command for command in commands if _has(command, at, valkey))


def _has(command: str, at: Version, valkey: bool) -> bool:
    if at < (7, 0) and command in UNSEEN_BY_6_2:
        return True
    return command not in SINCE or at >= SINCE[command][1 if valkey else 0]


def _user(user: str, setting: str, keys: str, commands: list[str]) -> list[str]:
    granted = " ".join(f"+{command}" for command in commands)
    password = secrets.token_urlsafe(24)
    return [
        f"# {setting}: redis://{user}:{password}@HOST:PORT",
        f"ACL SETUSER {user} reset on >{password} resetchannels {keys} -@all {granted}",
    ]
