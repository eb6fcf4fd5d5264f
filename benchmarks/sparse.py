"""Whole sparse Hessians: next to products, next to CasADi's, and in Newton's method.

A Hessian is taken at a new x each time, after the first, which finds its pattern and compiles. Its time
is given in products at a fixed point; x, v and results are warm in both.
"""

import itertools
import math
import time

import numpy as np
import scipy.sparse

from benchmarks import adjustment
from benchmarks.problems import make_lennard_jones, make_rosenbrock, make_surface
from benchmarks.tables import bar, micro, table

__all__ = ["section"]

NEW = 4
"""Points that take turns."""
LEAST = 1e-12
"""The largest element of a gradient with which Newton's method ends."""


def control(x):
    """Reaction and diffusion in one dimension: the states, and the controls that are their sources."""
    u, a = np.split(x, 2)
    defect = u[2:] - 2 * u[1:-1] + u[:-2] - 0.1 * np.exp(u[1:-1]) + a[1:-1]
    return np.sum(defect**2) + np.sum((u - 1) ** 2) + 0.1 * np.sum(a**2)


def rows(quick: bool):
    """Labels, functions, points, arguments, and the most products that a Hessian may take."""
    side, size, atoms = (100, 10_000, 500) if quick else (1000, 1_000_000, 10_000)
    rosenbrock, surface = make_rosenbrock(size), make_surface((side, side))
    gas = make_lennard_jones((atoms, 60))
    adjusted = adjustment.data(observations=2_000 if quick else 20_000)
    states = np.random.default_rng(0).normal(size=size)
    return [
        (f"Rosenbrock, {size:,}", rosenbrock.fun, rosenbrock.x0, rosenbrock.args, 3),
        (f"surface, {side} x {side}", surface.fun, surface.x0, surface.args, 8),
        (f"Lennard-Jones, {atoms:,} atoms", gas.fun, gas.x0, gas.args, None),
        ("bundle adjustment", adjustment.in_arrays, *adjusted, None),
        (f"control, {size:,}", control, states, (), None),
    ]


def section(run) -> None:
    """Hessians next to products, to CasADi, and in Newton's method."""
    _next_to_products(run)
    if run.peers:
        _next_to_peers(run)
    _newton(run)


def _next_to_products(run) -> None:
    from nbhvp import differentiable

    lines, met, soon = [], {}, {}
    for label, fun, x, args, most in rows(run.quick):
        if run.only is not None and run.only.lower() not in label.lower():
            continue
        f = differentiable(fun)
        v = np.random.default_rng(1).normal(size=x.size)
        H = f.hessian(x, *args)
        H @ v
        start, compiling = time.perf_counter(), f.report().compile_seconds
        S = f.sparse_hessian(x, *args)
        first = time.perf_counter() - start - f.report().compile_seconds + compiling
        error = np.abs(S @ v - H @ v).max() / np.abs(H @ v).max()
        if not error <= 1e-10:
            raise AssertionError(f"{label}: relative error {error:.1e}, not 1e-10")
        points = itertools.cycle([x + 1e-9 * k for k in range(NEW)])
        before, runs = f.report().product_runs, 0
        f.sparse_hessian(next(points), *args)
        runs = f.report().product_runs - before
        calls = {
            "product": lambda H=H, v=v: H @ v,
            "hessian": lambda f=f, points=points, args=args: f.sparse_hessian(next(points), *args),
        }
        measured = run.rounds(calls)
        ratio = measured.ratio("hessian", "product")
        times = micro(measured.best("product")), micro(measured.best("hessian"))
        per_row = f"{S.nnz / x.size:.1f}"
        way = f"{runs} products" if runs else "one program"
        lines.append([label, f"{x.size:,}", per_row, way, f"{first:.2f}", *times, str(ratio)])
        if most is not None:
            is_met = None if measured.disturbed else ratio.median <= most
            met[f"{label} in {most}"] = is_met
            soon[label] = None if measured.disturbed else first <= 1.0
    header = ["problem", "n", "entries of a row", "by", "pattern, s", "product, µs", "Hessian, µs"]
    print(table([*header, "Hessian / product"], lines) + "\n")
    print(bar("a whole Hessian in so many products", met))
    print(bar("pattern and program planned in 1 s", soon) + "\n")


def _casadi(problem, points):
    from benchmarks.peers import casadi_hessian

    evaluate, (i, j), out, kept = casadi_hessian(problem)
    evaluate()
    needed = scipy.sparse.csc_array((out, (i, j)), shape=2 * (problem.x0.size,))
    return (lambda kept=(out, kept): evaluate()), needed


def _asdex(problem, points):
    from benchmarks.peers import asdex_hessian

    evaluate, as_scipy = asdex_hessian(problem)
    return (lambda: evaluate(next(points))), as_scipy()


def _colours(problem, points):
    """As ADOL-C does it, with our pattern and products: one for each colour of a star colouring."""
    from nbhvp import differentiable
    from nbhvp.runtime.matrices import coloured

    f = differentiable(problem.fun)
    matrix = coloured(f.hessian_sparsity(problem.x0), is_symmetric=True)

    def evaluate(x):
        H = f.hessian(x)
        return matrix.way.entries(lambda v: H @ v, H.dtype)

    parts = evaluate(problem.x0), matrix.columns, matrix.starts
    return (lambda: evaluate(next(points))), scipy.sparse.csc_array(parts, shape=matrix.shape)


PEERS = {"CasADi": _casadi, "asdex": _asdex, "colours": _colours}
"""What each gives for a problem and for points in turn: a whole Hessian anew, and how it is at x0."""


def _next_to_peers(run) -> None:
    from nbhvp import differentiable

    size = 1_000 if run.quick else 100_000
    side = 33 if run.quick else 317
    lines, ahead = [], {}
    for problem in (make_rosenbrock(size), make_surface((side, side))):
        points = itertools.cycle([problem.x0 + 1e-9 * k for k in range(NEW)])
        f = differentiable(problem.fun)
        S = f.sparse_hessian(problem.x0)
        calls = {"nbhvp": lambda f=f, points=points: f.sparse_hessian(next(points))}
        for name, make in PEERS.items():
            try:
                calls[name], needed = make(problem, points)
            except ImportError:
                print(f"- {name} is not installed.\n")
                continue
            if abs(S - needed).max() > 1e-10 * abs(needed).max():
                raise AssertionError(f"{problem.name}: entries differ from those of {name}")
            if (S != 0).nnz > needed.nnz or (name == "CasADi" and needed.nnz != S.nnz):
                raise AssertionError(f"{problem.name}: another pattern than that of {name}")
        measured = run.rounds(calls)
        for name in list(calls)[1:]:
            ratio = measured.ratio(name, "nbhvp")
            times = [micro(measured.best(one)) for one in ("nbhvp", name)]
            lines.append([problem.name, f"{problem.x0.size:,}", name, *times, str(ratio)])
            is_ahead = None if measured.disturbed else ratio.median >= 3
            ahead[f"{problem.name}, {name}"] = is_ahead
    header = ["problem", "n", "peer", "nbhvp, µs", "peer, µs", "peer / nbhvp"]
    print(table(header, lines) + "\n")
    print(bar("3 times ahead", ahead) + "\n")


def dissected(grid):
    """The numbers in a grid in an order of elimination: both halves, then the line between them."""
    if grid.size <= 16:
        return grid.ravel()
    k = len(grid) // 2
    return np.concatenate([dissected(grid[:k].T), dissected(grid[k + 1 :].T), grid[k]])


def newton(f, x, least=LEAST):
    """Newton's method with the factors of the sparse Hessian of a grid, and steps that are halved."""
    from scipy.sparse.linalg import splu

    side = math.isqrt(x.size)
    order = dissected(np.arange(x.size).reshape(side, side))
    value, gradient = f.value_and_grad(x)
    steps = 0
    while np.abs(gradient).max() > least:
        H = f.sparse_hessian(x)[order][:, order].tocsc()
        factors = splu(H, "NATURAL", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        p = np.empty_like(x)
        p[order] = -factors.solve(gradient[order])
        length = 1.0
        while f(x + length * p) > value + 1e-4 * length * (gradient @ p) + 1e-14:
            length /= 2
        x = x + length * p
        value, gradient = f.value_and_grad(x)
        steps += 1
    return x, value, steps


def started(side: int):
    """The problem of a grid, and its solution on a coarser one, interpolated: where solvers start."""
    from scipy.ndimage import zoom

    from nbhvp import differentiable

    problem = make_surface((side, side))
    f = differentiable(problem.fun)
    if side < 20:
        return f, np.zeros(problem.x0.size)
    coarse = (side + 1) // 2
    x, *_ = newton(*started(coarse))
    z = make_surface((coarse, coarse)).data["frame"].copy()
    z[1:-1, 1:-1] = x.reshape(coarse - 2, coarse - 2)
    return f, zoom(z, side / coarse, order=1, mode="nearest")[1:-1, 1:-1].ravel()


def _newton(run) -> None:
    """The minimal surface by Newton's method: factors of sparse Hessians, and products.

    With 10^6 unknowns it takes minutes, so each runs once, and processor time is compared.
    """
    from nbhvp import minimize

    side = 50 if run.quick else 1000
    f, x0 = started(side)
    f.hvp(x0, x0), f.sparse_hessian(x0), f.grad(x0)
    start = time.process_time()
    x, _, steps = newton(f, x0)
    sparse = time.process_time() - start

    def stop(intermediate_result):
        if np.abs(f.grad(intermediate_result.x)).max() <= LEAST:
            raise StopIteration

    start = time.process_time()
    found = minimize(f, x0, method="newton-cg", options={"xtol": 0.0}, callback=stop)
    products = time.process_time() - start
    lines = [
        [name, f"{count}", taken, f"{seconds:.1f}", f"{np.abs(f.grad(at)).max():.0e}"]
        for name, count, taken, seconds, at in (
            ("splu of the sparse Hessian", steps, "0", sparse, x),
            ("Newton-CG", found.nit, f"{found.nhvp}", products, found.x),
        )
    ]
    print(f"The surface, {side} x {side}, from the solution on half the grid:\n")
    header = ["method", "steps", "products", "processor time, s", "largest element of the gradient"]
    print(table(header, lines) + "\n")
    print(bar("splu ahead of Newton-CG", {f"{side} x {side}": sparse < products}))
