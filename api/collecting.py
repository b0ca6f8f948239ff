"""Python's collector of cycles, kept from looking through what stays for good."""

import gc

YOUNG = 10_000
"""Objects made before the collector looks for cycles among them: Python's 700 are a few alerts, and
every hundredth look is at all there is, which stops the process for 30 ms."""


def settle() -> None:
    """What is there now stays: modules, routes, tables, runbooks.

    A full collection that looks through all of it stops the process for half a second, as often as
    every few seconds while many alerts come. Call it once, when the process has started.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
