"""What never enters a recording: values, secrets and, on request, names.

`tidy` drops what no tool reads from replies that could hold a value or a password; `Pseudonyms`
replaces names by others of the same structure, so that prefixes can still be told apart.
"""

import hashlib
import re
import secrets
from collections.abc import Callable

from tools.commands import CONTAINERS, KEY_AFTER_SUBCOMMAND, KEY_FIRST
from tools.connection import CLIENT_NAME, Reply
from tools.permissions import CONFIG_SETTABLE
from tools.recording_file import Words

_URL_CREDENTIALS = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/@]{1,200}@")
_ARGUMENTS = re.compile(r",? with args beginning with.*", re.DOTALL)
_MORE = re.compile(rb"\.\.\. \(\d+ more arguments\)")


def without_credentials(raw: bytes) -> bytes:
    """`redis://user:password@host` as `redis://***@host`, wherever it stands."""
    return _URL_CREDENTIALS.sub(rb"\1***@", raw) if b"@" in raw else raw


def _everywhere(reply: Reply) -> Reply:
    if isinstance(reply, bytes):
        return without_credentials(reply)
    return [_everywhere(part) for part in reply] if isinstance(reply, list) else reply


def without_arguments(text: str) -> str:
    """An error text without the arguments that Redis quotes in it."""
    return _ARGUMENTS.sub("", text)


def tidy(words: Words, reply: Reply) -> Reply:
    """The reply without what could be a value or a secret; its shape stays."""
    rule = _RULES.get(b" ".join(words[:2])) or _RULES.get(words[0])
    return _everywhere(rule(reply) if rule else reply)


def _each(rule: Callable[[list[Reply]], Reply]) -> Callable[[Reply], Reply]:
    def of_rows(reply: Reply) -> Reply:
        if not isinstance(reply, list):
            return reply
        return [rule(row) if isinstance(row, list) else row for row in reply]

    return of_rows


def _slow_command(entry: list[Reply]) -> Reply:
    if len(entry) > 3 and isinstance(entry[3], list):
        return [*entry[:3], command_and_key(entry[3]), *entry[4:]]
    return entry


def command_and_key(arguments: list[Reply]) -> Reply:
    """Arguments of a slow command: all but the command and its first key are blanked."""
    parts = [part if isinstance(part, bytes) else b"" for part in arguments]
    contained = parts[:1] and parts[0].decode("utf-8", "replace").lower() in CONTAINERS
    shown = {0, 1 if contained else 0, _key_place(parts)}
    return [
        part if place in shown or _MORE.fullmatch(part) else b"" for place, part in enumerate(parts)
    ]


def _key_place(parts: list[bytes]) -> int | None:
    """Where the first key is, of a command that is known to have one."""
    names = [part.decode("utf-8", "replace").lower() for part in parts[:2]]
    if not names or names[0] not in CONTAINERS:
        return 1 if names and names[0] in KEY_FIRST else None
    return 2 if KEY_AFTER_SUBCOMMAND & {names[0], "|".join(names)} else None


def _pairs(reply: list[Reply], wanted: frozenset[bytes]) -> Reply:
    return [
        part
        for place in range(0, len(reply) - 1, 2)
        if reply[place] in wanted
        for part in reply[place : place + 2]
    ]


def _stream(reply: Reply) -> Reply:
    """XINFO STREAM shows the first and the last entry: keep their ids, not their fields."""
    if not isinstance(reply, list):
        return reply
    kept = [*reply]
    for place in range(0, len(kept) - 1, 2):
        entry = kept[place + 1]
        if kept[place] in (b"first-entry", b"last-entry") and isinstance(entry, list):
            kept[place + 1] = [*entry[:1], []]
        elif kept[place] in (b"entries", b"groups") and isinstance(entry, list):
            kept[place + 1] = []
    return kept


def _library(row: list[Reply]) -> Reply:
    wanted = frozenset({b"library_name", b"engine", b"functions", b"index"})
    kept = _pairs(row, wanted)
    if not isinstance(kept, list):
        return kept
    for place in range(0, len(kept) - 1, 2):
        if kept[place] == b"functions":
            kept[place + 1] = _each(lambda f: _pairs(f, frozenset({b"name"})))(kept[place + 1])
    return kept


def _running(reply: Reply) -> Reply:
    """FUNCTION STATS shows the whole command of a running script."""
    if not isinstance(reply, list) or len(reply) < 2 or not isinstance(reply[1], list):
        return reply
    script = _pairs(reply[1], frozenset({b"name", b"duration_ms"}))
    return [reply[0], script, *reply[2:]]


def _allowed_parameters(reply: Reply) -> Reply:
    if not isinstance(reply, list):
        return reply
    allowed = frozenset(name.encode() for name in CONFIG_SETTABLE)
    return _pairs(reply, allowed)


_RULES: dict[bytes, Callable[[Reply], Reply]] = {
    b"SLOWLOG GET": _each(_slow_command),
    b"COMMANDLOG GET": _each(_slow_command),
    b"XINFO STREAM": _stream,
    b"FUNCTION LIST": _each(_library),
    b"FUNCTION STATS": _running,
    b"MODULE LIST": _each(lambda row: _pairs(row, frozenset({b"name", b"ver"}))),
    b"CONFIG GET": _allowed_parameters,
}

_PART = re.compile(rb"[0-9A-Za-z\x80-\xff]+|[^0-9A-Za-z\x80-\xff]+")
_ALNUM = re.compile(rb"[0-9A-Za-z]+")
_WORD_AND_NUMBER = re.compile(rb"([A-Za-z\x80-\xff]+)([0-9]+)")
_ADDRESS = re.compile(rb"(.*):([0-9]+)(@[0-9]+)?")
_CLIENT_FIELD = re.compile(rb"(?<![\w-])(addr|laddr|name|user)=(\S*)")
_INFO_HOST = re.compile(
    rb"^(master_host|slave[0-9]+|executable|config_file)(:)(.*?)(\r?)$", re.MULTILINE
)
_IP = re.compile(rb"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
_CLUSTER_NODE = re.compile(rb"^(\S+ )([^\s,]*)(?:,\S*)? ", re.MULTILINE)
_HOST = re.compile(rb"((?:ip|host)=)([^,]*)")


class Pseudonyms:
    """Other names for names: the same for the same, with the separators and the kind of each part.

    The key is random and not kept, so nobody can try names against a recording.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(32)
        self._known: dict[tuple[str, bytes], bytes] = {}
        self._true: dict[bytes, bytes] = {}
        self._taken: set[bytes] = set()

    def name(self, raw: bytes) -> bytes:
        """A key, client, group or user by another name; `(no name)` stays empty."""
        return b"".join(
            self._part(part) if part[:1].isalnum() or part[0] >= 0x80 else part
            for part in _PART.findall(raw)
        )

    def true(self, raw: bytes) -> bytes:
        """A text with the parts of names that were replaced here put back. For who hashed it."""

        def back(found: re.Match[bytes]) -> bytes:
            if (whole := self._true.get(found[0])) is not None:
                return whole
            two = _WORD_AND_NUMBER.fullmatch(found[0])
            parts = [self._true.get(part) for part in two.groups()] if two else []
            return b"".join(p for p in parts if p) if parts and all(parts) else found[0]

        return _ALNUM.sub(back, raw)

    def address(self, raw: bytes) -> bytes:
        """`ip:port` with the host replaced; a port says nothing."""
        if (match := _ADDRESS.fullmatch(raw)) is None:
            return self._of("word", raw) if raw else raw
        host, port, bus = match.groups()
        return (self._of("word", host) if host else b"") + b":" + port + (bus or b"")

    def _part(self, part: bytes) -> bytes:
        if part.isdigit():
            return self._of("number", part)
        if match := _WORD_AND_NUMBER.fullmatch(part):
            return self._of("word", match[1]) + self._of("number", match[2])
        return self._of("token" if any(48 <= c < 58 for c in part) else "word", part)

    def _of(self, kind: str, part: bytes) -> bytes:
        known = self._known.get((kind, part))
        if known is None:
            known = self._fresh(kind, part)
            self._known[(kind, part)] = known
            self._true[known] = part
            self._taken.add(known)
        return known

    def _fresh(self, kind: str, part: bytes) -> bytes:
        for attempt in range(1_000):
            seed = kind.encode() + bytes([attempt % 256, attempt // 256]) + part
            digest = hashlib.blake2b(seed, key=self._key, digest_size=16).digest()
            if kind == "number":
                width = max(6, len(part))
                made = str(int.from_bytes(digest) % 10**width).zfill(width).encode()
            elif kind == "word":
                made = bytes(97 + byte % 26 for byte in digest[:7])
                # A word without a vowel would count as one that a machine made (tools/shape.py).
                made = made[:1] + b"aeiou"[made[1] % 5 :][:1] + made[2:]
            else:
                made = b"a" + str(int.from_bytes(digest[:5])).encode()[:9] + b"f"
            if made not in self._taken:
                return made
        return digest.hex().encode()

    def command(self, words: Words) -> Words:
        """The command with the names in it replaced."""
        if words[0] == b"XLEN":
            hidden = {1}
        elif words[0] == b"XPENDING":
            hidden = {1, 2}
        elif words[0] == b"XINFO":
            hidden = {2, 3} if words[1] in (b"GROUPS", b"CONSUMERS") else {2}
        else:
            return words
        return tuple(self.name(w) if place in hidden else w for place, w in enumerate(words))

    def reply(self, words: Words, reply: Reply) -> Reply:
        """The reply with names and addresses replaced."""
        rule = self._rules().get(b" ".join(words[:2])) or self._rules().get(words[0])
        return rule(reply) if rule else reply

    def _rules(self) -> dict[bytes, Callable[[Reply], Reply]]:
        return {
            b"SLOWLOG GET": _each(self._slow),
            b"COMMANDLOG GET": _each(self._slow),
            b"CLIENT LIST": self._clients,
            b"CLIENT INFO": self._clients,
            b"INFO": self._info,
            b"ROLE": self._role,
            b"ACL LOG": _each(self._denial),
            b"ACL WHOAMI": self._word,
            b"XINFO GROUPS": _each(lambda row: self._valued(row, b"name")),
            b"XINFO CONSUMERS": _each(lambda row: self._valued(row, b"name")),
            b"XPENDING": self._pending,
            b"FUNCTION LIST": _each(lambda row: self._valued(row, b"library_name", b"name")),
            b"CLUSTER NODES": self._nodes,
            b"CLUSTER SLOTS": lambda _: [],
            b"CLUSTER SHARDS": lambda _: [],
        }

    def _word(self, reply: Reply) -> Reply:
        return self.name(reply) if isinstance(reply, bytes) else reply

    def _slow(self, entry: list[Reply]) -> Reply:
        named = [*entry]
        if len(named) > 3 and isinstance(named[3], list):
            parts = [part if isinstance(part, bytes) else b"" for part in named[3]]
            place = _key_place(parts)
            if place is not None and place < len(parts):
                parts[place] = self.name(parts[place])
            named[3] = list(parts)
        if len(named) > 5:
            address = named[4]
            named[4] = self.address(address) if isinstance(address, bytes) else address
            named[5] = self._word(named[5])
        return named

    def _clients(self, reply: Reply) -> Reply:
        if not isinstance(reply, bytes):
            return reply
        return _CLIENT_FIELD.sub(self._client_field, reply)

    def _client_field(self, match: re.Match[bytes]) -> bytes:
        field, value = match.groups()
        if value in (b"default", CLIENT_NAME.encode()):
            return match[0]
        other = self.address(value) if field in (b"addr", b"laddr") else self.name(value)
        return bytes(field + b"=" + other)

    def _nodes(self, reply: Reply) -> Reply:
        """Node ids are random; host names and what else follows the address are left out."""
        if not isinstance(reply, bytes):
            return reply
        return _CLUSTER_NODE.sub(lambda found: found[1] + self.address(found[2]) + b" ", reply)

    def _info(self, reply: Reply) -> Reply:
        if not isinstance(reply, bytes):
            return reply
        named = _INFO_HOST.sub(self._info_host, reply)
        return _IP.sub(lambda found: self._of("word", found[0]), named)

    def _info_host(self, match: re.Match[bytes]) -> bytes:
        name, colon, value, end = match.groups()
        if name.startswith(b"slave"):
            value = _HOST.sub(lambda m: m[1] + self._of("word", m[2]), value)
        elif name == b"master_host":
            value = self._of("word", value)
        else:
            value = b""
        return bytes(name + colon + value + end)

    def _role(self, reply: Reply) -> Reply:
        if not isinstance(reply, list) or not reply:
            return reply
        if reply[0] == b"slave" and len(reply) > 1:
            return [reply[0], self._word(reply[1]), *reply[2:]]
        hosts = _each(lambda row: [self._word(row[0]), *row[1:]] if row else row)
        return [hosts(part) if isinstance(part, list) else part for part in reply]

    def _denial(self, entry: list[Reply]) -> Reply:
        named = self._valued(entry, b"username", b"object")
        if isinstance(named, list):
            for place in range(0, len(named) - 1, 2):
                if named[place] == b"client-info":
                    named[place + 1] = self._clients(named[place + 1])
        return named

    def _valued(self, row: list[Reply], *wanted: bytes) -> Reply:
        """Replace the values of these fields, in this flat map and in maps inside it."""
        named = [*row]
        for place in range(0, len(named) - 1, 2):
            value = named[place + 1]
            if named[place] in wanted:
                named[place + 1] = self._word(value)
            elif named[place] == b"functions":
                named[place + 1] = _each(lambda inner: self._valued(inner, *wanted))(value)
        return named

    def _pending(self, reply: Reply) -> Reply:
        """Summary: [count, first, last, [[consumer, n]]]; extended: [[id, consumer, ms, n]]."""
        if not isinstance(reply, list):
            return reply
        if reply and isinstance(reply[0], int) and isinstance(reply[-1], list):
            named = _each(lambda row: [self._word(row[0]), *row[1:]] if row else row)
            return [*reply[:-1], named(reply[-1])]
        return _each(lambda row: [*row[:1], self._word(row[1]), *row[2:]] if len(row) > 1 else row)(
            reply
        )
