"""The pictures of the gallery in one, for the README: `python docs/gallery/overview.py`."""

import runpy
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).parent
ROWS = (("spectrum", "solvers"), ("cluster", "uncertainty"))


def picture(name):
    """The pixels of what a program draws, 3.4 inches high."""
    plt.close("all")
    runpy.run_path(str(HERE / f"{name}.py"))
    figure = plt.gcf()
    figure.set_dpi(100)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


rows = [np.hstack([picture(name) for name in row]) for row in ROWS]
plt.imsave(HERE.parent / "gallery.png", np.vstack(rows))
