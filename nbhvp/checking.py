"""Whether derivatives are right: a report on one function at one point.

What depends on the function's own code, called as plain Python, is compared with it: its value, its
gradient g and product H v against central differences, and the remainders of Taylor's formula,

    r2(h) = |f(x + h v) - f(x) - h g.v|           ~ h^2,
    r3(h) = |f(x + h v) - f(x) - h g.v - h^2/2 v.H v| ~ h^3,

whose slopes over h tell a wrong derivative from rounding. The rest holds a derivative to what it must
be: H symmetric and linear in v, one value in all exact modes and targets, and in float32. The
function is traced once more, with the line that made each node, and interpreted: where a value is not
finite, or a branch changes near x, the report names the primitive and the user's line.

A function of arrays is checked through w.f(x), with random weights w. x is taken in float64.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nbhvp.function import Function, differentiable
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Node, dependent, reachable
from nbhvp.runtime.calls.inputs import as_vector, takes
from nbhvp.runtime.tracer import Tracer
from nbhvp.trace.arguments import flatten
from nbhvp.trace.recording import LinedPool, source_of

__all__ = ["CheckReport", "Row", "check"]

HALVINGS = 40
"""Steps of the remainders, each half of the one before."""
STEPS = 10.0 ** -np.arange(2, 8.5, 0.5)
"""Steps of differences, relative to 1 + |x|; the best one counts."""
LARGEST = 0.1
"""The first of these steps, relative to 1 + |x|, unless a branch changes nearer to x."""
RADII = 10.0 ** np.arange(-14.0, -0.5)
"""How far from x branches are looked at, relative to 1 + |x|."""
SMALLEST = 10.0 ** np.arange(-14.0, -8.5)
"""Steps that show nothing but rounding."""
TOLERANCE = 1e-6
"""Of derivatives against differences, relative."""
AT_A_KINK = 1e-6
"""The radius within which a branch that changes spoils differences."""


@dataclass(frozen=True)
class Row:
    """One line of a report.

    Attributes
    ----------
    name, against : str
        What was checked, and against what.
    measured, needed : str
        Relative errors and slopes as they were found, and their bounds.
    status : str
        "ok", "note" (nothing wrong, but worth knowing), "KINK" (there is no derivative at this
        point: the one of a branch is given) or "FAILED".
    note : str
        Where, and what to do.
    """

    name: str
    against: str
    measured: str
    needed: str
    status: str
    note: str = ""


@dataclass(frozen=True)
class CheckReport:
    """The findings of `check`. Printing it shows a table.

    Attributes
    ----------
    passed : bool
        Whether no row has the status FAILED or KINK.
    rows : tuple of Row
    steps : ndarray, shape (m,)
        The steps h of the remainders.
    remainders : dict of int to ndarray of shape (k, m)
        r2 and r3, by their order, along k directions.
    """

    source: str
    shape: tuple[int, ...]
    rows: tuple[Row, ...]
    steps: np.ndarray
    remainders: dict[int, np.ndarray]

    @property
    def passed(self) -> bool:
        return all(row.status in ("ok", "note") for row in self.rows)

    def __str__(self) -> str:
        heads = ("check", "against", "measured", "needed", "")
        table = [heads, *((r.name, r.against, r.measured, r.needed, r.status) for r in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        notes = ["", *(row.note for row in self.rows)]
        lines = [f"{self.source}, x of shape {self.shape}", ""]
        for cells, note in zip(table, notes, strict=True):
            line = "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip()
            lines += [line, *(f"    {text}" for text in note.splitlines())]
        count = sum(row.status not in ("ok", "note") for row in self.rows)
        return "\n".join([*lines, "", "passed" if self.passed else f"{count} failed"])

    def plot(self, file: Any = None) -> Any:
        """The remainders over the step, with the slopes 2 and 3; needs matplotlib.

        Parameters
        ----------
        file : path
            Where to save the figure, if at all.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        for order, remainders in self.remainders.items():
            color = f"C{order - 2}"
            axes.loglog(self.steps, remainders.T, ".-", color=color, markersize=4, linewidth=0.5)
            top = np.nanmax(remainders[:, 0], initial=0.0) or 1.0
            line = top * (self.steps / self.steps[0]) ** order
            axes.loglog(self.steps, line, "--", color=color, label=f"slope {order}")
            axes.set_ylim(bottom=max(top * 1e-20, 1e-300))
        axes.set(xlabel="h", ylabel="remainder", title=self.source)
        axes.legend()
        if file is not None:
            figure.savefig(file)
        return figure


def check(
    f: Callable,
    x: Any,
    /,
    *args: Any,
    directions: int | None = None,
    seed: int | None = None,
    **kwargs: Any,
) -> CheckReport:
    """Check the derivatives of a function at a point, in random directions.

    Parameters
    ----------
    f : Function or callable
        ``f(x, *args, **kwargs)``, with any result. A plain function is made `differentiable` first.
    x : array_like of floats
        The point, taken in float64. Of a function of a tree it may be the tree.
    *args, **kwargs
        Further arguments of the function.
    directions : int, optional
        How many random directions, by default 3.
    seed : int, optional
        The seed of the directions, by default 0. If the function has a parameter ``seed`` or
        ``directions`` of its own, the value is passed to it.

    Returns
    -------
    CheckReport
        ``print(report)`` shows a table, ``report.passed`` is True if nothing is wrong, and
        ``report.plot()`` draws the remainders of Taylor's formula.

    Examples
    --------
    >>> import numpy as np
    >>> import nbhvp
    >>> report = nbhvp.check(lambda x: np.sum(np.sin(x) ** 2), np.array([1.0, 2.0]))
    >>> report.passed
    True
    """
    f = f if isinstance(f, Function) else differentiable(f)
    own = {"directions": 3, "seed": 0}
    for name, given in {"directions": directions, "seed": seed}.items():
        if given is not None:
            (kwargs if takes(f.__wrapped__, name) else own)[name] = given
    rng = np.random.default_rng(own["seed"])
    subject = Subject(f, np.array(as_vector(x, f.unravel), np.float64), args, kwargs, rng)
    directions = own["directions"]
    V = rng.normal(size=(directions, subject.x.size))
    V /= np.maximum(np.linalg.norm(V, axis=1, keepdims=True), np.finfo(float).tiny)
    V = V.reshape(directions, *subject.x.shape)
    nonfinite = subject.nonfinite(V[0])
    source, shape = source_of(f.__wrapped__), subject.x.shape
    if nonfinite is not None or subject.x.size == 0:
        return CheckReport(source, shape, (nonfinite or _value(subject),), np.zeros(0), {})
    return CheckReport(source, shape, *_compared(subject, V))


def _compared(
    subject: Subject, V: np.ndarray
) -> tuple[tuple[Row, ...], np.ndarray, dict[int, np.ndarray]]:
    """The rows of a report, and the remainders at their steps."""
    switches = _nearest_switches(subject, V)
    is_kink = switches is not None and switches[0] <= AT_A_KINK
    largest = LARGEST if switches is None or is_kink else min(LARGEST, switches[0] / 10)
    steps = largest * subject.scale * 0.5 ** np.arange(HALVINGS)
    remainders = _remainders(subject, V, steps)
    by_differences = [*_differences(subject, V), *_slopes(subject, steps, remainders)]
    if is_kink:
        by_differences = [
            replace(row, status="KINK") if row.status == "FAILED" else row for row in by_differences
        ]
    rows = [
        _value(subject),
        *by_differences,
        *_identities(subject, V),
        _single_precision(subject, V),
        *([] if switches is None else [_branches(*switches)]),
    ]
    return tuple(rows), steps, remainders


class Subject:
    """A function at a point: as plain Python, differentiated, and as an interpreted graph."""

    def __init__(
        self, f: Function, x: np.ndarray, args: tuple, kwargs: dict, rng: np.random.Generator
    ):
        self.f, self.x, self.args, self.kwargs = f, x, args, kwargs
        self.scale = 1.0 + np.linalg.norm(x)
        self.pool = LinedPool()
        tracer = Tracer(f.__wrapped__, f.options)
        trace = tracer.trace(tracer.call(x, args, kwargs), self.pool)
        self.inputs, self.guards = trace.inputs, tuple(node for node, _ in trace.guards)
        self.leaves = flatten(args, kwargs)[0]
        (array,) = trace.outputs
        self.w = None if array.shape == () else rng.normal(size=array.shape)
        point = trace.inputs[0]
        self.v = p.input_node(self.pool, "direction of the check", x.shape, x.dtype)
        if self.w is not None:
            array = derive.inner(p.constant(self.pool, self.w.astype(array.dtype)), array)
        self.nodes = {"value": array, "gradient": derive.gradient(array, point)}
        for mode in derive.EXACT_MODES:
            self.nodes[mode] = derive.hvp(array, point, self.v, mode)

    # As plain Python.

    def plain(self, x: np.ndarray) -> float:
        """The function's own code, without any tracing."""
        unravel = self.f.unravel
        with np.errstate(all="ignore"):
            point = x.copy() if unravel is None else unravel(x)
            result = self.f.__wrapped__(point, *self.args, **self.kwargs)
            if isinstance(result, list | tuple):
                result = np.array([np.reshape(one, ()) for one in result])
            return self._weighted(result)

    def _weighted(self, result: Any) -> float:
        result = np.asarray(result, np.float64)
        return float(result.item() if self.w is None else np.sum(self.w * result))

    # Differentiated.

    def value(self, x: np.ndarray) -> float:
        return self._weighted(self.f(x, *self.args, **self.kwargs))

    def gradient(self, x: np.ndarray) -> np.ndarray:
        if self.w is None:
            return self.f.grad(x, *self.args, **self.kwargs)
        return self.f.vjp(x, self.w, *self.args, **self.kwargs)

    def product(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        if self.w is None:
            return self.f.hvp(x, v, *self.args, **self.kwargs)
        hessian = self.f.weighted_hessian(x, self.w, *self.args, **self.kwargs)
        return (hessian @ v.reshape(-1)).reshape(x.shape)

    # Interpreted.

    def interpreted(self, nodes: Sequence[Node], x: np.ndarray, v: np.ndarray) -> list[np.ndarray]:
        graph = Graph((*self.inputs, self.v), tuple(nodes))
        return interpret(graph, x, *self.leaves, v)

    def where(self, node: Node) -> str:
        """The primitive of a node, and the user's line that it stems from."""
        return f"{node.primitive.name}, {self.pool.lines.get(node, 'by no line of the function')}"

    def nonfinite(self, v: np.ndarray) -> Row | None:
        """The first node with a value that is not finite, where a result is not."""
        for name, label in (("value", "value"), ("gradient", "gradient"), (MODE, "product")):
            nodes = reachable([self.nodes[name]])
            values = self.interpreted(nodes, self.x, v)
            bad = [not np.isfinite(a).all() if a.dtype.kind in "fc" else False for a in values]
            if not bad[nodes.index(self.nodes[name])]:
                continue
            node = nodes[bad.index(True)]
            what = "nan" if np.isnan(values[bad.index(True)]).any() else "infinity"
            place = f"x or an argument holds {what}" if not node.args else self.where(node)
            note = f"{what} first arises in {place}" if node.args else place
            return Row(f"finite {label}", "", what, "finite", "FAILED", note)
        return None

    @property
    def switches(self) -> list[Node]:
        """The nodes of value and gradient that are constant by pieces: branches, signs, orders."""
        nodes = reachable([self.nodes["value"], self.nodes["gradient"], *self.guards])
        active = dependent(nodes, self.inputs[:1])
        return [node for node in nodes if node in active and node.args and _is_switch(node)]


MODE = derive.EXACT_MODES[0]


def _is_switch(node: Node) -> bool:
    entry = node.primitive
    if node.dtype.kind not in "fc":
        return True
    return entry.kind == "elementwise" and entry.rule is None


# The rows.


def _row(name: str, against: str, error: float, bound: float, note: str = "") -> Row:
    status = "ok" if error <= bound else "FAILED"
    return Row(name, against, f"{error:.1e}", f"{bound:.0e}", status, note)


def _relative(error: Any, *scales: Any) -> float:
    error, scale = np.linalg.norm(error), max(map(np.linalg.norm, scales), default=0.0)
    return float(error / scale if scale else error)


def _value(subject: Subject) -> Row:
    plain = subject.plain(subject.x)
    return _row("value", "plain Python", _relative(subject.value(subject.x) - plain, plain), 1e-9)


def _differences(subject: Subject, V: np.ndarray) -> Iterator[Row]:
    """Gradient and product against central differences, with the step that serves each best."""
    x, gradient = subject.x, subject.gradient(subject.x)
    small = abs(subject.plain(x)) / subject.scale, np.linalg.norm(gradient) / subject.scale
    slopes, products = [], []
    for v in V:
        product = subject.product(x, v)
        slope = np.sum(gradient * v)
        slopes.append(_best(subject.plain, slope, subject, v, gradient, 1e-3 * small[0]))
        products.append(_best(subject.gradient, product, subject, v, product, 1e-3 * small[1]))
    for name, against, found in (
        ("gradient", "differences of values", slopes),
        ("product", "differences of gradients", products),
    ):
        error, bound = max(found, key=lambda pair: pair[0] / pair[1])
        row = _row(name, against, error, bound, "rounding hides more" if bound > TOLERANCE else "")
        hidden = replace(row, status="FAILED", note="rounding, or a jump, hides all")
        yield row if bound < 1e-2 else hidden


def _best(
    function: Callable, derivative: Any, subject: Subject, v: np.ndarray, *scales: Any
) -> tuple[float, float]:
    """The relative error of a derivative at the best step, and what is needed there.

    That is more where rounding, which the smallest steps tell, leaves fewer digits. Against a
    derivative that vanishes, further scales count.
    """
    x, here = subject.x, np.asarray(function(subject.x))
    scale = max(map(np.linalg.norm, scales)) or 1.0
    noise = float(np.finfo(float).eps * np.linalg.norm(here))
    for h in SMALLEST * subject.scale:
        noise = max(noise, float(np.linalg.norm(function(x + h * v) - here - h * derivative)))
    best = np.inf, np.inf, TOLERANCE
    for h in STEPS * subject.scale:
        difference = (function(x + h * v) - function(x - h * v)) / (2 * h)
        error = np.linalg.norm(difference - derivative) / scale
        if np.isfinite(error):
            rounding = noise / (h * scale)
            best = min(best, (float(error + rounding), float(error), 10 * float(rounding)))
    return best[1], max(TOLERANCE, best[2])


def _remainders(subject: Subject, V: np.ndarray, steps: np.ndarray) -> dict[int, np.ndarray]:
    """The remainders after the linear and after the quadratic term, along each direction."""
    x, gradient = subject.x, subject.gradient(subject.x)
    value = subject.plain(x)
    second, third = np.empty((len(V), len(steps))), np.empty((len(V), len(steps)))
    for k, v in enumerate(V):
        slope, curvature = np.sum(gradient * v), np.sum(v * subject.product(x, v))
        for j, h in enumerate(steps):
            rest = subject.plain(x + h * v) - value - h * slope
            second[k, j], third[k, j] = abs(rest), abs(rest - h * h / 2 * curvature)
    return {2: second, 3: third}


def _slopes(
    subject: Subject, steps: np.ndarray, remainders: dict[int, np.ndarray]
) -> Iterator[Row]:
    """The slopes of the remainders: the least one of all directions."""
    eps = np.finfo(float).eps
    value = abs(subject.plain(subject.x))
    for order, name in ((2, "gradient"), (3, "product")):
        slopes = []
        for rest, second in zip(remainders[order], remainders[2], strict=True):
            # The rounding of f and that of x + h v, which counts by the slope of f there.
            noise = np.nanmax(rest[-8:], initial=eps * value) + eps * subject.scale * second / steps
            slopes.append(_slope(rest, 30 * noise))
        slope = min(slopes)
        status = "ok" if slope >= order - 0.5 else "FAILED"
        measured = f"slope {slope:.2f}" if np.isfinite(slope) else "rounding"
        yield Row(name, "Taylor's remainder", measured, f"slope {order}", status)


def _slope(remainders: np.ndarray, noise: np.ndarray) -> float:
    """The slope at the smallest steps whose remainder is no rounding; infinite if all are."""
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.log2(remainders[:-1] / remainders[1:])
        clear = remainders > noise
    slopes = slopes[clear[:-1] & clear[1:] & np.isfinite(slopes)]
    return float(np.median(slopes[-4:])) if slopes.size else np.inf


def _identities(subject: Subject, V: np.ndarray) -> Iterator[Row]:
    """What holds exactly of products: symmetry, linearity, one value whatever computes it."""
    x, (u, v) = subject.x, (V[0], V[-1] if len(V) > 1 else np.roll(V[0], 1))
    Hu, Hv = subject.product(x, u), subject.product(x, v)
    error = abs(np.sum(u * Hv) - np.sum(v * Hu))
    yield _row("product", "symmetry", _relative(error, Hu, Hv), 1e-9)
    combined = subject.product(x, 2 * u - 3 * v)
    yield _row("product", "linearity in v", _relative(combined - 2 * Hu + 3 * Hv, Hu, Hv), 1e-9)
    modes = [subject.nodes[mode] for mode in derive.EXACT_MODES]
    first, *others = subject.interpreted(modes, x, u)
    for mode, other in zip(derive.EXACT_MODES[1:], others, strict=True):
        yield _row("product", mode, _relative(other - first, first), 1e-9)
    yield _row("product", "the interpreter", _relative(first - Hu, first), 1e-9)
    if subject.w is not None:
        yield _adjoints(subject, u)


def _adjoints(subject: Subject, v: np.ndarray) -> Row:
    """<J v, w> = <v, J^T w>."""
    forward = subject.f.jvp(subject.x, v, *subject.args, **subject.kwargs)
    backward = subject.gradient(subject.x)
    error = np.sum(forward * subject.w) - np.sum(backward * v)
    return _row("J v", "J^T w", _relative(error, forward, backward), 1e-9)


def _single_precision(subject: Subject, V: np.ndarray) -> Row:
    """The gradient and a product in float32, which tells how a function is conditioned here."""
    name, against = "float32", "float64"
    single, options = copy.copy(subject), replace(subject.f.options, target="interpret")
    single.f = differentiable(subject.f.__wrapped__, **vars(options))
    x, v = subject.x.astype(np.float32), V[0].astype(np.float32)
    try:
        pairs = [(single.gradient(x), subject.gradient(subject.x))]
        pairs.append((single.product(x, v), subject.product(subject.x, V[0])))
    except Exception as error:
        return Row(name, against, "error", "", "note", f"{type(error).__name__}: {error}")
    errors = [_relative(low - high, high) for low, high in pairs]
    status = "ok" if max(errors) <= 1e-3 else "note"
    note = "" if status == "ok" else "in float32 the gradient or product has few digits here"
    return Row(name, against, f"{max(errors):.1e}", "1e-03", status, note)


def _branches(radius: float, places: list[str]) -> Row:
    """The branches that change near x."""
    measured = "at x" if radius == RADII[0] else f"distance {radius:.0e}"
    lines = [f"changes: {place}" for place in places[:4]] + ["..."] * (len(places) > 4)
    if radius <= AT_A_KINK:
        lines.append("where there is a kink, derivatives at x are those of one side")
    return Row("branches", "neighbours of x", measured, "", "note", "\n".join(lines))


def _nearest_switches(subject: Subject, V: np.ndarray) -> tuple[float, list[str]] | None:
    """The least relative distance at which branches, signs or orders change, and which do."""
    switches = subject.switches
    here = subject.interpreted(switches, subject.x, V[0])
    for radius in RADII if switches else ():
        changed: dict[str, None] = {}
        for v, sign in itertools.product(V, (1, -1)):
            there = subject.interpreted(switches, subject.x + sign * radius * subject.scale * v, v)
            for node, a, b in zip(switches, here, there, strict=True):
                if not np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"):
                    changed[subject.where(node)] = None
        if changed:
            return radius, list(changed)
    return None
