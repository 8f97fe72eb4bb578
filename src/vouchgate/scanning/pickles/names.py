"""What a name in a pickle means to the loaders that may read it.

Rules
1. Protocols below 3 may come from Python 2: loaders rename modules and names by the interpreter's own table (`fix_imports`, on unless it is
   switched off). Read so, the new name counts.
2. Where the old module exists today too, a loader with that switched off would take the old name: both must then be allowed.
3. From protocol 3 on a name is what it says.
"""

from __future__ import annotations

import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING


def meanings(module: str, name: str, protocol: int) -> tuple[tuple[str, str], ...]:
    """Every (module, name) that it may be looked up as; the first is what loaders do unless told otherwise."""
    if protocol >= 3:
        return ((module, name),)
    renamed = NAME_MAPPING.get((module, name))
    if renamed is None:
        renamed = (IMPORT_MAPPING.get(module, module), name)
    if renamed == (module, name) or module.partition(".")[0] not in sys.stdlib_module_names:
        return (renamed,)
    return (renamed, (module, name))
