"""Sign-ins that failed: counted for the audit trail, and limited for each address.

Only what fails is limited: a valid token is served whatever else comes from its address, so that
nobody locks out others behind the same proxy. A token of 256 random bits is not guessed; this keeps
trying cheap for us, and visible.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network

from api import metrics
from api.store import audit
from api.store.audit import Person
from api.store.database import Database

MOST_FAILURES = 20
"""Of one address within the window; further ones are answered 429."""
WINDOW_SECONDS = 60.0
MOST_KNOWN = 10_000
"""Addresses that are remembered; beyond, the one that failed longest ago is forgotten."""
MOST_ADDRESSES = 10
"""Addresses that a row of the audit trail names."""
PREFIX_BITS = 64
"""Of an IPv6 address: whoever has one has all of these."""


@dataclass
class SignIns:
    """Sign-ins that failed, counted: whoever tries a million tokens makes one row a minute."""

    failed: int = 0
    limited: int = 0
    """Of those, how many were answered 429."""
    addresses: list[str] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _windows: "OrderedDict[str, tuple[float, int]]" = field(default_factory=OrderedDict, repr=False)
    """By address: when its window began, and the failures in it."""

    def fail(self, address: str) -> int | None:
        """Count one. How many seconds its address has to wait, or None: not too many yet."""
        metrics.SIGN_INS_FAILED.inc()
        address = _of_one(address)
        with self._lock:
            self.failed += 1
            if address not in self.addresses and len(self.addresses) < MOST_ADDRESSES:
                self.addresses.append(address)
            now = self.clock()
            began, failures = self._windows.pop(address, (now, 0))
            if now - began >= WINDOW_SECONDS:
                began, failures = now, 0
            self._windows[address] = (began, failures + 1)
            if len(self._windows) > MOST_KNOWN:
                self._windows.popitem(last=False)
            if failures < MOST_FAILURES:
                return None
            self.limited += 1
            return math.ceil(began + WINDOW_SECONDS - now)

    async def write_down(self, database: Database) -> None:
        """One row for those since the last time, if there were any."""
        with self._lock:
            failed, limited, addresses = self.failed, self.limited, self.addresses
            self.failed, self.limited, self.addresses = 0, 0, []
        if failed:
            async with database.writing() as session:
                nobody = Person("unknown", "none")
                await audit.note(
                    session, nobody, "sign_in_failed", times=failed, limited=limited, of=addresses
                )


def _of_one(address: str) -> str:
    """What belongs to one sender: an IPv4 address, or the network of an IPv6 one."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ip_network(f"{found}/{PREFIX_BITS}", strict=False))
    return str(found)
