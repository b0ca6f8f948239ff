"""Expected failures of a command, by kind: what redis-py and the network raise, in our words."""

import redis.exceptions as errors

from tools.reading import FailureKind, NotMeasured, printable


class CommandFailure(Exception):
    """An expected failure of one command: what was tried, what failed, what would help."""

    def __init__(self, kind: FailureKind, tried: str, failed: str, remedy: str = "") -> None:
        super().__init__(f"{tried}: {failed}")
        self.kind = kind
        self.tried = tried
        self.failed = failed
        self.remedy = remedy

    def as_not_measured(self) -> NotMeasured:
        """The same, as a reading."""
        return NotMeasured(
            not_measured=self.tried, because=self.failed, failure=self.kind, remedy=self.remedy
        )


_PREFIX_KINDS: dict[str, FailureKind] = {
    "NOPERM": "refused",
    "NOAUTH": "auth",
    "WRONGPASS": "auth",
    "MISCONF": "misconf",
    "BUSY": "busy",
    "LOADING": "loading",
    "OOM": "oom",
    "MASTERDOWN": "masterdown",
    "READONLY": "readonly",
}
# redis-py strips the code of errors it knows a class for.
_CLASS_KINDS: tuple[tuple[type[Exception], FailureKind], ...] = (
    (errors.NoPermissionError, "refused"),
    (errors.AuthenticationError, "auth"),
    (errors.AuthorizationError, "auth"),
    (errors.BusyLoadingError, "loading"),
    (errors.OutOfMemoryError, "oom"),
    (errors.ReadOnlyError, "readonly"),
    (errors.AskError, "moved"),
    (errors.MasterDownError, "masterdown"),
    (errors.MaxConnectionsError, "maxclients"),
    (errors.TimeoutError, "timeout"),
    (TimeoutError, "timeout"),
)
# Replies, though redis-py derives some from its ConnectionError: the link is as good as before.
ERROR_REPLIES = (
    errors.ResponseError,
    errors.BusyLoadingError,
    errors.AuthenticationError,
    errors.AuthorizationError,
)
_REMEDIES: dict[FailureKind, str] = {
    "refused": "grant the command to this user (`redis-oncall acl` prints the rule)",
    "auth": "check the user name and password in the target's URL",
    "misconf": "fix the disk or directory that snapshots are written to",
    "busy": "a script blocks the server: SCRIPT KILL, if it has not written",
    "loading": "wait until the dataset is loaded",
    "oom": "the server is at maxmemory",
    "maxclients": "free a connection slot; keep one for diagnosis",
    "timeout": "the server or the network is too slow; try again when it answers",
    "connection_lost": "look at the server's log: it closed the connection",
    "unreachable": "check host, port and that the server runs",
    "unresolvable": "check the host name in the target's URL",
    "unknown_command": "this version does not have it, or a managed service keeps it to itself",
    "moved": "look at the node that serves the slot now",
    "not_allowed": "",
}


def failure_of(error: Exception, tried: str) -> CommandFailure:
    """The typed failure for an exception of redis-py or the network."""
    text = printable(str(error) or type(error).__name__, 300)
    kind = _kind_of(error, text)
    if kind == "moved":  # all that is left of it are the slot and the address
        text = f"its slot is on another node of the cluster: {text}"
    return CommandFailure(kind, tried, text, _REMEDIES.get(kind, ""))


def _kind_of(error: Exception, text: str) -> FailureKind:
    lowered = text.lower()
    if "max number of clients" in lowered or "maxclients" in lowered:
        return "maxclients"
    prefix = text.split(" ", 1)[0]
    if prefix in _PREFIX_KINDS:
        return _PREFIX_KINDS[prefix]
    for cls, kind in _CLASS_KINDS:
        if isinstance(error, cls):
            return kind
    if isinstance(error, errors.ResponseError):
        return _kind_of_reply(lowered)
    if isinstance(error, errors.ConnectionError | OSError):
        return _kind_of_link(lowered)
    return "error"


def _kind_of_reply(lowered: str) -> FailureKind:
    if "unknown command" in lowered or "unknown subcommand" in lowered:
        return "unknown_command"
    if "snapshots" in lowered and "disk" in lowered:
        return "misconf"
    return "refused" if "no permissions" in lowered else "error"


_UNRESOLVED = ("name or service", "nodename", "name resolution", "getaddrinfo", "no address assoc")


def _kind_of_link(lowered: str) -> FailureKind:
    if any(s in lowered for s in _UNRESOLVED):
        return "unresolvable"
    if any(s in lowered for s in ("connect call failed", "connecting to", "refused", "no route")):
        return "unreachable"
    return "connection_lost"
