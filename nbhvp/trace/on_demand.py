"""Compositions for those parts of SciPy that are slow to import.

A function that uses such a part has imported it, so its compositions are entered then: before a
trace begins, and when the traced function itself imports something. `import nbhvp` stays fast.
"""

import importlib
import sys

__all__ = ["complete"]

_COMPOSITIONS = {
    "scipy.integrate": "integrate",
    "scipy.interpolate": "interpolate",
    "scipy.ndimage": "ndimage",
    "scipy.signal": "signal",
    "scipy.spatial": "spatial",
}
"""Part of SciPy -> module of `nbhvp.trace.scipy`."""
_entered: set[str] = set()


def complete() -> None:
    """Enter the compositions for all parts of SciPy that have been imported."""
    for library, module in _COMPOSITIONS.items():
        if library not in _entered and library in sys.modules:
            importlib.import_module(f"nbhvp.trace.scipy.{module}")
            _entered.add(library)
