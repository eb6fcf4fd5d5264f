"""Random programs: hypothesis writes small functions in NumPy, line by line, as text.

Each line is run by NumPy as soon as it is written, so that the next one knows the shapes; a line
that NumPy refuses, or whose numbers grow, is left out. Lines apply functions, take views by index
expressions, write through them in place, and branch on values. A program prints as what it is: a
function that may be pasted into a session.
"""

from __future__ import annotations

import linecache
import warnings
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

__all__ = ["Program", "programs"]

LARGEST, HIGHEST = 40, 50.0
"""The most elements of an array, and the largest number in it."""

# fmt: off
UNARY = [
    "np.tanh({a})", "np.sin({a})", "np.cos({a})", "np.arctan({a})", "np.exp(-{a} * {a})", "-{a}",
    "np.abs({a})", "np.sqrt(1 + {a} ** 2)", "np.log1p({a} ** 2)", "0.3 * {a} ** 3", "{a} * 0.5",
    "np.sign({a}) * {a}", "np.logaddexp(0, {a})", "np.clip({a}, -0.7, 0.9)", "np.maximum({a}, 0)",
    "np.where({a} > 0.2, {a}, 0.1 * {a} ** 2)", "np.floor({a}) + {a}", "np.hypot({a}, 0.5)",
    "np.exp(1j * {a}).imag", "np.abs({a} + 1j * {a} ** 2)", "np.array({a})", "1 / (1 + {a} ** 2)",
    "np.nan_to_num({a})", "np.remainder({a}, 0.7)", "np.square({a})", "np.sinc({a})",
    "np.float64(2) * {a}", "np.copy({a})", "{a}.copy()", "np.zeros_like({a}) + {a}", "np.heaviside({a}, 0) + {a}",
]
BINARY = [
    "{a} + {b}", "{a} - {b}", "{a} * {b}", "{a} / (2 + {b} ** 2)", "np.maximum({a}, {b})",
    "np.minimum({a}, {b})", "np.hypot({a}, 1 + {b} ** 2)", "np.arctan2({a}, 2 + {b})",
    "np.logaddexp({a}, {b})", "np.where({a} > {b}, {a}, {b} ** 2)", "(1.5 + np.tanh({a})) ** {b}",
    "np.fmax({a}, {b})", "np.copysign({a}, 2 + np.sin({b}))", "np.add.outer({a}, {b})",
    "np.select([{a} > 0.5, {b} > 0], [{a}, {b}], 0.3)",
]
ALONG = [
    "np.sum({a}, axis={k})", "np.mean({a}, axis={k}, keepdims=True)", "np.max({a}, axis={k})",
    "np.min({a}, axis={k}, keepdims=True)", "np.cumsum({a}, axis={k})", "np.cumprod({a}, axis={k})",
    "np.sort({a}, axis={k})", "np.prod({a}, axis={k})", "np.flip({a}, axis={k})", "np.median({a}, axis={k})",
    "np.roll({a}, 2, axis={k})", "np.diff({a}, axis={k})", "np.std({a}, axis={k})", "np.ptp({a}, axis={k})",
    "np.repeat({a}, 2, axis={k})", "np.expand_dims({a}, {k})", "np.concatenate([{a}, 2 * {a}], axis={k})",
    "np.stack([{a}, {a} ** 2], axis={k})", "np.take({a}, [0, -1, 0], axis={k})", "np.var({a}, axis={k}, ddof=0)",
    "np.take_along_axis({a}, np.argsort(-{a}, axis={k}), axis={k})", "np.quantile({a}, 0.3, axis={k})",
    "np.linalg.norm({a}, axis={k})", "np.maximum.accumulate({a}, axis={k})", "np.swapaxes({a}, 0, {k})",
    "np.moveaxis({a}, {k}, 0)", "np.add.reduceat({a}, [0, 0], axis={k})", "np.unwrap({a}, axis={k})",
    "np.trapezoid({a}, axis={k})", "np.gradient({a}, axis={k})", "np.split({a}, [1], axis={k})[0]",
    "np.pad({a}, 1)", "np.pad({a}, 1, mode='wrap')", "np.pad({a}, 1, mode='edge')",
    "np.insert({a}, 0, 0.5, axis={k})", "np.delete({a}, 0, axis={k})", "np.logaddexp.reduce({a}, axis={k})",
    "np.lib.stride_tricks.sliding_window_view({a}, 2, axis={k})", "np.interp({a}, [-1, 0, 1.5], [0.3, -1, 2])",
]
WHOLE = [
    "{a}.ravel()", "{a}.T", "{a}.reshape(-1)", "np.ravel({a}, order='F')", "{a}.flatten()", "np.squeeze({a})",
    "np.atleast_2d({a})", "np.outer({a}, {a})[:3, :4]", "np.tril(np.atleast_2d({a}))", "np.diagonal(np.atleast_2d({a}))",
    "np.atleast_2d({a}) @ np.atleast_2d({a}).T", "np.einsum('...i,...j->ij', np.atleast_1d({a}), np.atleast_1d({a}))",
    "np.tensordot({a}, {a}, {a}.ndim)", "np.convolve({a}.ravel(), [1.0, -0.5, 0.2])", "np.tile({a}, 2)",
    "np.atleast_1d({a})[np.argsort(np.atleast_1d({a}), axis=0).ravel()[:3] % len(np.atleast_1d({a}))]",
    "np.broadcast_to({a}, (2, *{a}.shape))", "np.dot({a}.ravel(), {a}.ravel())", "np.kron({a}, [1.0, -1.0])",
    "{a}[{a} > 0.1]", "np.argmax({a}) * 0.1 + {a}", "np.meshgrid({a}.ravel()[:3], {a}.ravel()[:2])[0]",
    "np.polyval([0.1, -0.2, 0.3], {a})", "np.array([{a}.sum(), 1.0, {a}.min()])", "np.rot90(np.atleast_2d({a}))",
    "np.bincount([0, 1] * ({a}.size // 2) + [0] * ({a}.size % 2), weights={a}.ravel())",
    "np.cov(np.atleast_2d({a}), bias=True)", "np.vander({a}.ravel()[:4], 3)", "{a} if {a}.sum() > 0.3 else {a} ** 2",
    "np.vectorize(lambda t: t if t > 0 else 0.1 * t)({a}.ravel()[:3])", "np.resize({a}, (2, 3))",
    "np.cross({a}.ravel()[:3], [1.0, 2.0, 3.0])",
]
WRITES = [
    "{v} = {s}", "{v} += {s}", "{v} *= 0.5", "{v} -= {v}[::-1]", "{v} = {v} ** 2", "np.multiply({v}, 0.7, out={v})",
    "np.add({v}, {s}, out={v})", "np.copyto({v}, {s}, where={v} > 0)", "{v}.fill(0.3)", "{v}.sort()", "{v} /= 2",
    "np.add.at({v}, 0, {s})", "np.putmask({v}, {v} > 0.2, {s})", "np.clip({v}, -1, 1, out={v})", "{v}.flat[0] = 0.25",
]
# fmt: on


@dataclass(frozen=True)
class Program:
    """The text of a function of x, and a point."""

    lines: tuple[str, ...]
    x: np.ndarray = field(repr=False)

    @property
    def text(self) -> str:
        return "\n    ".join(("def f(x):", *self.lines))

    def function(self):
        """The function, whose lines errors can name."""
        name = f"<random program {abs(hash(self.lines))}>"
        linecache.cache[name] = (len(self.text), None, self.text.splitlines(True), name)
        scope = {"np": np}
        exec(compile(self.text, name, "exec"), scope)
        return scope["f"]

    def __repr__(self) -> str:
        return f"{self.text}\n\nx = np.array({self.x.tolist()})"


class Writer:
    """Lines so far, and what NumPy makes of them."""

    def __init__(self, draw, x: np.ndarray):
        self.draw, self.x = draw, x
        self.lines: list[str] = []
        self.scope = {"np": np, "x": x}
        self.names = ["x"]

    def one_of(self, options):
        return self.draw(st.sampled_from(options))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def name(self) -> str:
        """A name, the later ones more often."""
        return self.names[-1 - self.number(0, min(len(self.names) - 1, 5))]

    def write(self, line: str, name: str | None = None) -> None:
        """Add a line if NumPy takes it, and its numbers stay few and small."""
        names = [*self.names, *([name] if name else [])]
        scope = {"np": np, "x": self.x.copy()}
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings(action="error"):
                exec("\n".join([*self.lines, line]), scope)
        except (ValueError, TypeError, IndexError, ZeroDivisionError, Warning):
            return
        if all(_is_fit(scope[key]) for key in names):
            self.scope, self.names = scope, names
            self.lines.append(line)

    def assign(self, expression: str) -> None:
        name = f"r{len(self.names)}"
        self.write(f"{name} = {expression}", name)

    # Kinds of lines.

    def unary(self) -> None:
        self.assign(self.one_of(UNARY).format(a=self.name()))

    def binary(self) -> None:
        self.assign(self.one_of(BINARY).format(a=self.name(), b=self.name()))

    def along(self) -> None:
        name = self.name()
        axis = self.number(0, max(np.ndim(self.scope[name]) - 1, 0))
        self.assign(self.one_of(ALONG).format(a=name, k=axis))

    def whole(self) -> None:
        self.assign(self.one_of(WHOLE).format(a=self.name()))

    def view(self) -> None:
        name = self.name()
        self.assign(f"{name}[{self.index(name)}]")

    def put(self) -> None:
        name = self.name()
        target = f"{name}[{self.index(name)}]" if self.number(0, 3) else name
        source = self.one_of(["0.3", self.name(), f"{self.name()}.sum()", f"{self.name()}[:1]"])
        self.write(self.one_of(WRITES).format(v=target, s=source))

    def index(self, name: str) -> str:
        """An index expression that fits an array, or nearly."""
        items, arrays = [], 0
        for extent in np.shape(self.scope[name]):
            kind = self.number(0, 9)
            if kind < 3 or not extent:
                items.append(self.one_of([":", "::-1", "1:", ":-1", "::2", "-2:", "0:1"]))
            elif kind < 5:
                items.append(str(self.number(-extent, extent - 1)))
            elif kind < 7 and arrays < 2:
                count = self.number(1, 3)
                items.append(str([self.number(-extent, extent - 1) for _ in range(count)]))
                arrays += 1
            elif kind == 7:
                items.append(str([bool(self.number(0, 1)) for _ in range(extent)]))
            else:
                items.append(self.one_of(["...", "None, :", "1:, None"]))
        if items.count("...") > 1:
            items = [":" if item == "..." else item for item in items]
        return ", ".join(items[: self.number(1, 9)]) or "..."


def _is_fit(value) -> bool:
    return (
        isinstance(value, np.ndarray | np.float64)
        and value.dtype == np.float64
        and value.size <= LARGEST
        and value.ndim <= 4
        and bool(np.all(np.abs(value) <= HIGHEST))
    )


@st.composite
def programs(draw, most: int = 10) -> Program:
    """A program of at most so many lines, and a point; one point in five has ties and zeros."""
    shape = draw(st.sampled_from([(3,), (4,), (2, 3), (3, 2), (), (1, 4), (2, 2, 2)]))
    x = np.random.default_rng(draw(st.integers(0, 999))).normal(size=shape)
    if draw(st.integers(0, 4)) == 0:
        x = np.round(x)
    x = np.asarray(x)
    writer = Writer(draw, x)
    kinds = [
        writer.unary, writer.binary, writer.along, writer.whole, writer.view, writer.put, writer.put,
    ]  # fmt: skip
    for _ in range(draw(st.integers(1, most))):
        writer.one_of(kinds)()
    last = writer.names[-1]
    terms = [f"np.sum(np.cos(1.0 + np.arange({last}.size)) * np.ravel({last}))"]
    terms += [f"np.sum(np.tanh({name}))" for name in writer.names[-4:-1]]
    return Program((*writer.lines, f"return {' + '.join(terms)}"), x)
