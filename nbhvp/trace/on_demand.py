"""Compositions for those parts of SciPy that are slow to import.

A function that uses such a part has imported it, so its compositions are entered then: before a
trace begins, and when the traced function itself imports something. `import nbhvp` stays fast.
"""

import importlib
import sys

__all__ = ["complete"]

_COMPOSITIONS = {
    "scipy.integrate": "integration",
    "scipy.interpolate": "interpolation",
    "scipy.ndimage": "image_filters",
    "scipy.signal": "signal_filters",
    "scipy.spatial": "distances",
}
"""Part of SciPy -> module beside this one."""
_entered: set[str] = set()


def complete() -> None:
    """Enter the compositions for all parts of SciPy that have been imported."""
    for library, module in _COMPOSITIONS.items():
        if library not in _entered and library in sys.modules:
            importlib.import_module(f"nbhvp.trace.{module}")
            _entered.add(library)
