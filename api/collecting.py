"""Python's collector of cycles, kept from looking through what stays for good."""

import gc


def settle() -> None:
    """What is there now stays: modules, routes, tables, runbooks.

    A full collection that looks through all of it stops the process for half a second, as often as
    every few seconds while many alerts come. Call it once, when the process has started.
    """
    gc.collect()
    gc.freeze()
