"""Scripts and functions. Source: INFO memory, FUNCTION LIST/STATS (7.0+). Never their code."""

from tools.reading import Measured, Reading


class LibraryRow(Reading):
    """One function library."""

    name: str
    engine: str
    functions: list[str]


class Scripts(Reading):
    """Script caches, in bytes."""

    number_of_cached_scripts: Measured[int]
    used_memory_vm_eval: Measured[int]
    """Lua VM, outside used_memory. 6.2: used_memory_lua."""
    used_memory_scripts_eval: Measured[int]
    number_of_functions: Measured[int]
    number_of_libraries: Measured[int]
    used_memory_functions: Measured[int]
    evicted_scripts: Measured[int]
    running_script: Measured[str]
    """Name and milliseconds of a running function or script; empty: none."""
    libraries: Measured[list[LibraryRow]]
