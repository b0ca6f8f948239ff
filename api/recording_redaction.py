"""A recording's names without secrets and personal data; hosts and everything else stay."""

from collections.abc import Callable

from agent.redaction import redact
from tools.connection import Reply
from tools.recording_file import Recording
from tools.recording_names import renamed
from tools.recording_privacy import Pseudonyms


class Redactions(Pseudonyms):
    """Names without what must not leave; those that would be the same then are numbered."""

    def name(self, raw: bytes) -> bytes:
        """The name, redacted; the same for the same, another for another."""
        text = raw.decode("utf-8", "surrogateescape")
        clean = redact(text)
        if clean == text:
            return raw
        known = self._known.get(("name", raw))
        if known is None:
            known = self._numbered(clean)
            self._known[("name", raw)] = known
            self._taken.add(known)
        return known

    def _numbered(self, clean: str) -> bytes:
        for number in range(1, len(self._taken) + 2):
            mark = "[redacted " if number == 1 else f"[redacted {number} "
            made = clean.replace("[redacted ", mark, 1).encode("utf-8", "surrogateescape")
            if made not in self._taken:
                return made
        raise AssertionError("one of so many is free")

    def address(self, raw: bytes) -> bytes:
        """Hosts stay: whoever is to look at a recording has to know which server it was."""
        return raw

    def _of(self, kind: str, part: bytes) -> bytes:
        return part

    def _rules(self) -> dict[bytes, Callable[[Reply], Reply]]:
        shapes = (b"CLUSTER NODES", b"CLUSTER SLOTS", b"CLUSTER SHARDS", b"INFO", b"ROLE")
        return {words: rule for words, rule in super()._rules().items() if words not in shapes}


def redacted(recording: Recording) -> Recording:
    """The recording with its names redacted."""
    return renamed(recording, Redactions())
