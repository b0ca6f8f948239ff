"""A change of one user's rules, spelt out with its undo. People carry it out, never we."""

import re
from typing import ClassVar

from pydantic import Field, field_validator

from tools.catalogue import Arguments
from tools.commands import READS, WRITES
from tools.connection import Connection
from tools.remedies.remedy import Check, Preview, Remedy, Risk

NEVER_GIVEN = frozenset({"flushall", "flushdb", "swapdb", "migrate", "keys", "randomkey"})
GIVEN = (READS | WRITES) - NEVER_GIVEN
"""Commands on keys; whoever lacks another one is to be asked first."""
TAKEN = frozenset({"keys", "smembers", "hgetall", "sort", "flushall", "flushdb"})
_USER = re.compile(r"[A-Za-z0-9_.@:-]{1,100}")
_PATTERN = re.compile(r"[~&][A-Za-z0-9_.:{}/-]{1,150}\*?")


class PreviewAclChangeArguments(Arguments):
    """Whose rules, and which."""

    user: str = Field(pattern=f"^{_USER.pattern}$")
    rules: list[str] = Field(min_length=1, max_length=20)
    """`+command`, `-command`, `~pattern` or `&channel`."""

    @field_validator("rules")
    @classmethod
    def _narrow(cls, rules: list[str]) -> list[str]:
        for rule in rules:
            if not is_narrow(rule):
                raise ValueError(
                    "a rule gives one command on keys, one pattern, or takes a command"
                )
        return rules


def is_narrow(rule: str) -> bool:
    """Does it give or take one thing, and nothing that opens the server?"""
    if rule[:1] == "+":
        return rule[1:] in GIVEN
    if rule[:1] == "-":
        return rule[1:] in TAKEN
    return bool(_PATTERN.fullmatch(rule))


class PreviewAclChange(Remedy[PreviewAclChangeArguments]):
    """ACL SETUSER lines to hand over."""

    kind: ClassVar[str] = "preview_acl_change"
    risk: ClassVar[Risk] = "R1"
    args = PreviewAclChangeArguments
    executable: ClassVar[bool] = False

    async def preview(self, connection: Connection, args: PreviewAclChangeArguments) -> Preview:
        """The lines, the test, and the undo."""
        user = args.user
        change = f"ACL SETUSER {user} {' '.join(args.rules)}"
        undo = [f"-{rule[1:]}" for rule in args.rules if rule[0] == "+"]
        undo += [f"+{rule[1:]}" for rule in args.rules if rule[0] == "-"]
        patterns = [rule for rule in args.rules if rule[0] in "~&"]
        lines = [
            f"ACL GETUSER {user}",
            "# Note what it answers: it is what the undo goes back to.",
            change,
            *(f"ACL DRYRUN {user} {rule[1:]} <key>" for rule in args.rules if rule[0] in "+-"),
            "# 7.0 and later: OK, or why not.",
            "ACL SAVE",
            "# or CONFIG REWRITE, where users are kept in the configuration; else a restart",
            "# takes it back.",
            "",
            "# Undo:",
            *([f"ACL SETUSER {user} {' '.join(undo)}"] if undo else []),
            *(
                [
                    f"ACL SETUSER {user} resetkeys resetchannels <patterns of ACL GETUSER above>",
                    "# A single pattern cannot be taken back.",
                ]
                if patterns
                else []
            ),
        ]
        if user == "default":
            lines.insert(0, "# Everybody without a user of their own is 'default'.")
        return Preview(
            title=f"For people: {change}",
            commands=[change.split(" ")],
            predicted_effect=f"{user} may do this from its next command on; nobody has to connect "
            "again." if args.rules[0][0] != "-" else f"{user} is refused it with NOPERM at once; "
            "whatever relies on it fails until it is given back.",
            verification="ACL LOG shows no new refusals that were not meant",
            rollback="the lines under Undo",
            never_touches="other users, passwords, keys; it is never carried out from here",
            artefact="\n".join(lines),
        )  # fmt: skip

    async def preconditions(
        self, connection: Connection, args: PreviewAclChangeArguments
    ) -> list[Check]:
        """None: people carry it out."""
        return []
