"""The table of ``docs/composition.md`` that ports other packages' lines, run: ``python -m benchmarks.ports``.

Each cell of a package that is installed is run as it stands, its last line evaluated, and the result
compared with a closed form. Rows without one (a constant, a rule of one's own, parameters as a vector) name
functions and are looked up.
"""

import importlib
import re
from pathlib import Path

import numpy as np

TABLE = Path(__file__).parents[1] / "docs" / "composition.md"
rng = np.random.default_rng(0)
A, x, v, w = rng.normal(size=(7, 5)), *rng.normal(size=(2, 5)), rng.normal(size=7)
V = rng.normal(size=(3, 5))
s, c = np.sin(A @ x), np.cos(A @ x)
J, g = c[:, None] * A, A.T @ (3 * s**2 * c) + 4 * x**3
H = A.T @ np.diag(6 * s * c**2 - 3 * s**3) @ A + np.diag(12 * x**2)
value = np.sum(s**3) + np.sum(x**4)
EXPECTED = {
    "gradient": g,
    "value and gradient": (value, g),
    "H v": H @ v,
    "v^T H": H @ v,
    "many v at one x": V @ H,
    "whole Hessian": H,
    "J v": J @ v,
    "J^T w": J.T @ w,
}


def _functions(sin, total):
    return {
        "f": lambda x: total(sin(x) ** 3) + total(x**4),
        "r": sin,
    }


def _torch(torch):
    words = {name: torch.tensor(globals()[name]) for name in "AxvwV"}
    words["x"].requires_grad_()
    return words | _functions(lambda x: torch.sin(words["A"] @ x), torch.sum)


def _jax(jax):
    jax.config.update("jax_enable_x64", True)
    words = {name: jax.numpy.array(globals()[name]) for name in "AxvwV"}
    importlib.import_module("jax.flatten_util")
    return words | _functions(lambda x: jax.numpy.sin(A @ x), jax.numpy.sum)


def _tensorflow(tf):
    words = {name: tf.constant(globals()[name]) for name in "AxvwV"}
    words |= _functions(lambda x: tf.sin(tf.linalg.matvec(A, x)), tf.reduce_sum)

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = words["f"](x)
        return tape.gradient(y, x)

    tape = tf.GradientTape(persistent=True)
    tape.__enter__()
    tape.watch(words["x"])
    return words | {"tf": tf, "tape": tape, "gradient": gradient, "g": gradient(words["x"])}


def _nbhvp(nbhvp):
    words = _functions(lambda x: np.sin(A @ x), np.sum)
    made = {name: nbhvp.differentiable(fun) for name, fun in words.items()}
    return made | {name: globals()[name] for name in "xvwV"}


PACKAGES = {"torch": _torch, "jax": _jax, "tensorflow": _tensorflow, "nbhvp": _nbhvp}
"""By the order of the columns: what the names in the cells stand for."""


def _plain(result):
    array = result.detach() if hasattr(result, "detach") else result
    return [_plain(one) for one in array] if isinstance(array, tuple) else np.asarray(array)


def _run(row, cell, words):
    """Whether what a cell's last line gives is right; None where the cell is a name."""
    *lines, last = re.findall(r"`([^`]*)`", cell)
    if row not in EXPECTED:
        root, *rest = last.lstrip("@").partition("(")[0].split(".")
        found = words[root]
        for name in rest:
            found = getattr(found, name)
        return callable(found) or root == "x"
    for line in lines:
        exec(line, words)
    found, expected = _plain(eval(last, words)), EXPECTED[row]
    pairs = (
        zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
    )
    return all(np.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in pairs)


def main() -> None:
    text = TABLE.read_text().partition("## From other packages")[2]
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in row] for row in rows[1:]]
    for column, (name, make) in enumerate(PACKAGES.items(), 1):
        try:
            package = importlib.import_module(name)
        except ImportError:
            print(f"- {name}: not installed")
            continue
        words = {name: package} | make(package)
        results = {row[0]: _run(row[0], row[column], dict(words)) for row in rows}
        wrong = [row for row, is_right in results.items() if not is_right]
        print(
            f"- {name} {package.__version__}: {len(results) - len(wrong)} of {len(results)} lines right",
            *wrong,
        )


if __name__ == "__main__":
    main()
