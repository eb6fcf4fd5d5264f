"""The package next to products by hand and to its peers: ``python benchmarks/compare.py [SECTION]``.

Sections, each with the bars that it is held to:

- ``product``: H(x) v at a fixed point, all that does not depend on v done beforehand, next to the
  product by hand (``benchmarks.hand``) and the installed peers (``benchmarks.peers``);
- ``point``: value, gradient, point program and one-shot product, x new with every call, next to
  the function itself in NumPy or as a plain loop of numba, whichever is faster;
- ``calls``: what a call costs where the arithmetic is nothing;
- ``new``: small functions at points not seen before, next to the closed form in NumPy and to peers;
- ``columns``: 32 vectors at once;
- ``threads``: two threads over one, by two processes that take turns;
- ``loops``: functions written as loops, under ``@njit``, next to the same functions in NumPy and to
  themselves; recording by the operation;
- ``models``: Gauss-Newton and Fisher products, next to JVP, loss and VJP by hand
  (``benchmarks.models``);
- ``recurrences``: loops over time in plain Python, next to products by hand with the Jacobians of the
  steps kept, ``lax.scan`` and ``mapaccum``; with ``memory=``, next to ``jax.checkpoint``; 8 directions;
- ``first``: from a fresh process to the first gradient and product, with empty and filled caches, of
  the suite and of ``benchmarks.programs``, next to JAX and autograd (``benchmarks.first``);
- ``memory``: what a product at n = 10^7 needs beside x, v and the result;
- ``sparse``: whole sparse Hessians, next to products and to CasADi's, and in Newton's method
  (``benchmarks.sparse``).

All contestants of a section run in one process on the same processors, NumPy arrays in and out,
and are checked against the closed form before they are timed. A time is the best round's median, a
ratio the median over the rounds with its smallest and largest; ``benchmarks.measure`` has the
rounds. The floor is what the hardware allows: the bytes of the problem's floor at the rate of a
copy of the same footprint, or its operations at the rate of a BLAS product of order 1024,
whichever is longer. Reading is faster than copying, so what only reads may be faster than that.
"""

import argparse
import contextlib
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import first  # noqa: E402  the folder is known from here on
from benchmarks.tables import bar, fresh, micro, table  # noqa: E402

COPY, GEMM, HAND, OURS = "copy", "gemm", "by hand", "nbhvp"
PEERS = ("JAX jvp", "JAX linearize", "PyTorch", "CasADi", "autograd")
LARGE_MLP = "MLP 784-256-128-10, batch 512"
SHORT = 20e-6
"""Seconds of a product by hand below which the call itself counts, not the ratio."""
QUICK = (
    "5 variables",
    "Rosenbrock, n = 10",
    "Rosenbrock, n = 10^3",
    "logistic, 1000 x 20",
    "MLP 10-16-1, batch 64",
    "mixture, 1000 x 10, K = 25",
)


def confine(threads: int) -> dict[str, str]:
    """Leave this process that many processors; the environment that pools of threads obey.

    They take their size when they are imported: NumPy, numba and the peers come after this.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    pools = {f"{pool}_NUM_THREADS": str(threads) for pool in ("OPENBLAS", "OMP", "MKL", "NUMBA")}
    # OpenMP's threads go on spinning after a loop, on the processors that the next one needs.
    pools["OMP_WAIT_POLICY"] = "passive"
    pools["OPENBLAS_THREAD_TIMEOUT"] = "4"  # the same for OpenBLAS: 2^4 cycles instead of 2^26
    multi = "true" if threads > 1 else "false"
    pools["XLA_FLAGS"] = (
        f"--xla_cpu_multi_thread_eigen={multi} intra_op_parallelism_threads={threads}"
    )
    os.environ.update(pools)
    return pools


# --- what all sections share ----------------------------------------------------------------------


def check(label, problem, product) -> None:
    """Compare a product with the closed form."""
    import numpy as np

    needed = problem.hvp(problem.x0, problem.v, *problem.args)
    error = np.linalg.norm(product(problem.v) - needed) / np.linalg.norm(needed)
    if not error <= 1e-10:
        raise AssertionError(f"{label} on {problem.name}: relative error {error:.1e}, not 1e-10")


def by_hand(problem, threads):
    """``product(v)`` by hand, into one array, on as many of the threads as serve it."""
    from benchmarks import hand

    product = hand.prepare(problem, problem.x0, hand.worthwhile(problem, threads))
    out = problem.v.copy()
    return partial(product, out=out)


def ours(problem):
    """``product(v)`` of the package at the problem's point."""
    from nbhvp import differentiable

    return differentiable(problem.fun).hessian(problem.x0, *problem.args).matvec


def gemm_seconds(flops: int, measured, operations: int) -> float:
    """What the operations take at the rate of the run's BLAS product."""
    return flops * measured.best(GEMM) / operations


def decided(measured, is_met: bool) -> bool | None:
    """Whether a bar is met, if the rounds were quiet enough to tell."""
    return None if measured.disturbed else is_met


def marked(label, measured) -> str:
    """The row's label, with a star if there was no quiet round enough."""
    return label + (" \\*" if measured.disturbed else "")


class Run:
    """The options of one process, and what its sections share."""

    def __init__(self, options):
        self.threads = options.threads[0]
        self.peers = options.peers
        self.count, self.seconds = (5, 1e-3) if options.quick else (7, 5e-3)
        self.only = options.only
        self.quick = options.quick
        self.processes = options.rounds
        self.data = {}

    def labels(self, among=None):
        """The rows that the command line asks for, among those of a section."""
        from benchmarks.problems import SUITE

        labels = QUICK if self.quick and self.only is None else tuple(SUITE)
        return [
            label
            for label in labels
            if (among is None or label in among)
            and (self.only is None or self.only.lower() in label.lower())
        ]

    def rounds(self, calls):
        from benchmarks.measure import rounds

        return rounds(calls, self.count, self.seconds)


# --- product --------------------------------------------------------------------------------------


def section_product(run) -> None:
    """H(x) v at a fixed point: by hand, the package, the peers."""
    from benchmarks.problems import make

    rows, missing, results = [], {}, {}
    for label in run.labels():
        problem = make(label)
        products = {HAND: by_hand(problem, run.threads), OURS: ours(problem)}
        if run.peers:
            products |= _peers(label, problem, run.threads, missing)
        for name, product in products.items():
            check(name, problem, product)
        measured, floor = _product_rounds(run, problem, products)
        results[label] = measured
        rows.append(_product_row(label, measured, floor))
        print(f"  {label}: done", file=sys.stderr, flush=True)
    header = ["problem", "floor, µs", "by hand, µs", "nbhvp, µs", "nbhvp / by hand"]
    if run.peers:
        header += [f"{name}, µs" for name in PEERS] + ["best peer / nbhvp"]
    print(table(header, rows) + "\n")
    for line in (*_product_bars(results), *_left_out(missing)):
        print(line)
    run.data["product"] = {
        label: {name: measured.best(name) for name in measured.medians}
        for label, measured in results.items()
    }


def _peers(label, problem, threads, missing):
    from benchmarks.peers import PEERS as prepare

    products = {}
    for name in PEERS:
        # Whatever a peer cannot do is said below the table; its cell stays empty.
        try:
            product = prepare[name](problem, threads)
            if product is not None:
                check(name, problem, product)
                products[name] = product
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            missing.setdefault(f"{name} ({reason})", []).append(label)
    return products


def _product_rounds(run, problem, products):
    from benchmarks import hand

    gemm, operations = hand.prepare_gemm()
    copy = hand.prepare_copy(problem.floor.bytes, hand.worthwhile(problem, run.threads))
    v = problem.v
    calls = {COPY: copy} | {
        name: (lambda product=product: product(v)) for name, product in products.items()
    }
    if problem.floor.flops:
        calls[GEMM] = gemm
    measured = run.rounds(calls)
    floor = measured.best(COPY)
    if problem.floor.flops:
        floor = max(floor, gemm_seconds(problem.floor.flops, measured, operations))
    return measured, floor


def _product_row(label, measured, floor):
    ratio = measured.ratio(OURS, HAND)
    cells = [marked(label, measured), micro(floor), micro(measured.best(HAND))]
    cells += [micro(measured.best(OURS)), str(ratio)]
    peers = [name for name in PEERS if name in measured.medians]
    if peers:
        cells += [micro(measured.best(name)) if name in peers else "" for name in PEERS]
        cells.append(str(measured.ratio(measured.fastest(peers), OURS)))
    return cells


def _product_bars(results):
    long = {k: m for k, m in results.items() if m.best(HAND) >= SHORT}
    short = {k: m for k, m in results.items() if k not in long}
    ratios = {k: m.ratio(OURS, HAND).median for k, m in long.items()}
    met = {k: decided(m, ratios[k] <= 1.25) for k, m in long.items()}
    yield bar("at most 1.25 x by hand, from 20 µs on", met)
    yield _mean_bar("at most 1.1 x by hand in the geometric mean", long, ratios, lambda r: r <= 1.1)
    met = {k: decided(m, m.difference(OURS, HAND).median <= 1.2e-6) for k, m in short.items()}
    yield bar("at most 1.2 µs above by hand, below 20 µs", met)
    rivals = {k: m for k, m in results.items() if m.fastest(PEERS)}
    ahead = {k: m.ratio(m.fastest(PEERS), OURS).median for k, m in rivals.items()}
    needed = {k: 1 / 1.05 if k == LARGE_MLP else 1.0 for k in rivals}
    met = {k: decided(m, ahead[k] >= needed[k]) for k, m in rivals.items()}
    yield bar("ahead of every peer (large MLP: at most 1.05 x the best)", met)
    yield _mean_bar("2 x ahead in the geometric mean", rivals, ahead, lambda r: r >= 2.0)


def _mean_bar(name, measured, ratios, holds):
    from benchmarks.measure import geometric_mean

    if not ratios:
        return bar(name, {})
    mean = geometric_mean(ratios.values())
    is_quiet = not any(m.disturbed for m in measured.values())
    return bar(f"{name}: {mean:.2f}", {"the mean": holds(mean) if is_quiet else None})


def _left_out(missing):
    for reason, labels in missing.items():
        yield f"- left out: {reason}: {', '.join(labels)}."


# --- point ----------------------------------------------------------------------------------------

POINT_BARS = {"value": 1.0, "gradient": 3.0, "point": 5.0, "one-shot": 4.0}


def section_point(run) -> None:
    """Value, gradient, point program and one-shot product at a new x, over the plain value."""
    from benchmarks.problems import make

    rows, met, long = [], {name: {} for name in POINT_BARS}, set()
    for label in run.labels():
        problem = make(label)
        measured, floor = _point_rounds(run, problem)
        reference = measured.fastest(("NumPy", "loop"))
        if measured.best(reference) >= SHORT:
            long.add(label)
        ratios = {name: measured.ratio(name, reference) for name in POINT_BARS}
        for name, limit in POINT_BARS.items():
            limit = 4.5 if (name, label) == ("one-shot", LARGE_MLP) else limit
            met[name][label] = decided(measured, ratios[name].median <= limit)
        times = [floor] + [
            measured.best(k) if k in measured.medians else None for k in ("NumPy", "loop")
        ]
        cells = ["" if seconds is None else micro(seconds) for seconds in times]
        rows.append([marked(label, measured), *cells, *map(str, ratios.values())])
        print(f"  {label}: done", file=sys.stderr, flush=True)
    header = ["problem", "floor, µs", "NumPy, µs", "plain loop, µs"]
    print(table([*header, *(f"{name} / faster" for name in POINT_BARS)], rows) + "\n")
    for name, limit in POINT_BARS.items():
        for span, among in ("from 20 µs on", long), ("below 20 µs", set(met[name]) - long):
            results = {label: is_met for label, is_met in met[name].items() if label in among}
            print(bar(f"{name} at most {limit:g} x the plain value, {span}", results))


def _point_rounds(run, problem):
    from itertools import cycle

    from benchmarks import hand
    from benchmarks.problems import value_floor
    from nbhvp import differentiable

    # Two points in turn: a Function remembers one.
    points = cycle([problem.x0, problem.x0 * (1.0 + 1e-3)])
    args, v = problem.args, problem.v
    # Of whom gradients alone are asked, both, and products alone.
    before, after, products = (differentiable(problem.fun) for _ in range(3))
    before.grad(problem.x0, *args)
    after.hvp(problem.x0, v, *args)
    assert abs(before(problem.x0, *args) / problem.fun(problem.x0, *args) - 1.0) <= 1e-10
    check("one-shot", problem, lambda v: products.hvp(problem.x0, v, *args))
    floor, gemm = value_floor(problem), hand.prepare_gemm()
    calls = {
        "NumPy": lambda: problem.fun(next(points), *args),
        "value": lambda: before(next(points), *args),
        "gradient": lambda: before.grad(next(points), *args),
        "point": lambda: after.value_and_grad(next(points), *args),
        "one-shot": lambda: products.hvp(next(points), v, *args),
        COPY: hand.prepare_copy(floor.bytes, run.threads if floor.bytes > hand.FORK_BYTES else 1),
    }
    loop = hand.value(problem)
    if loop is not None:
        calls["loop"] = lambda: loop(next(points))
    if floor.flops:
        calls[GEMM] = gemm[0]
    measured = run.rounds(calls)
    seconds = measured.best(COPY)
    if floor.flops:
        seconds = max(seconds, gemm_seconds(floor.flops, measured, gemm[1]))
    return measured, seconds


# --- models ---------------------------------------------------------------------------------------


def section_models(run) -> None:
    """Gauss-Newton and Fisher products at a fixed point, by hand and by the package."""
    import numpy as np

    from benchmarks.models import CASES

    rows, met = [], {}
    for label, make in CASES.items():
        if run.only is not None and run.only.lower() not in label.lower():
            continue
        case = make(run.threads)
        needed = case.by_hand(case.v).copy()
        error = np.linalg.norm(case.ours(case.v) - needed) / np.linalg.norm(needed)
        assert error <= 1e-10, f"{label}: relative error {error:.1e}"
        calls = {HAND: case.by_hand, OURS: case.ours}
        measured = run.rounds(
            {name: (lambda call=call, v=case.v: call(v)) for name, call in calls.items()}
        )
        ratio = measured.ratio(OURS, HAND)
        times = (micro(measured.best(name)) for name in calls)
        rows.append([marked(label, measured), *times, str(ratio)])
        is_short = measured.best(HAND) < SHORT
        is_close = is_short and measured.difference(OURS, HAND).median <= 1.2e-6
        met[label] = decided(measured, ratio.median <= 1.15 or is_close)
    print(table(["product", "by hand, µs", "nbhvp, µs", "nbhvp / by hand"], rows) + "\n")
    print(bar("at most 1.15 x by hand, or 1.2 µs above below 20 µs", met))


# --- calls ----------------------------------------------------------------------------------------


def section_calls(run) -> None:
    """Calls at a remembered point, where n is at most 10."""
    from benchmarks.problems import make
    from nbhvp import differentiable

    rows, met = [], {}
    for label in run.labels(("5 variables", "Rosenbrock, n = 10")):
        problem = make(label)
        f, x, v = differentiable(problem.fun), problem.x0, problem.v
        hessian, product = f.hessian(x), by_hand(problem, 1)
        check(OURS, problem, hessian.matvec)
        f.value_and_grad(x)
        calls = {
            "f(x)": lambda f=f, x=x: f(x),
            "f.grad(x)": lambda f=f, x=x: f.grad(x),
            "f.hvp(x, v)": lambda f=f, x=x, v=v: f.hvp(x, v),
            "H @ v": lambda hessian=hessian, v=v: hessian @ v,
        }
        measured = run.rounds({HAND: lambda product=product, v=v: product(v), **calls})
        rows.append(
            [marked(label, measured), *(micro(measured.best(name)) for name in (HAND, *calls))]
        )
        met |= {
            f"{name} of {label}": decided(measured, measured.best(name) <= 2e-6) for name in calls
        }
    print(
        table(["problem", "product by hand, µs", *(f"`{name}`, µs" for name in calls)], rows) + "\n"
    )
    print(bar("at most 2 µs each", met))


# --- new points -----------------------------------------------------------------------------------

NEW_BARS = {"value": 2e-6, "grad": 4e-6, "value_and_grad": 4e-6, "hvp": 5e-6}


def section_new(run) -> None:
    """Small functions at points not seen before, by the microsecond."""
    from benchmarks import new_points

    met: dict[str, dict[str, bool | None]] = {request: {} for request in NEW_BARS}
    for request in new_points.REQUESTS:
        rows, names = [], [HAND, OURS]
        for label, case in new_points.CASES.items():
            if run.only is not None and run.only.lower() not in label.lower():
                continue
            contestants = {HAND: new_points.by_hand(case), OURS: new_points.ours(case)}
            for name, make in new_points.PEERS.items() if run.peers else ():
                with contextlib.suppress(ImportError):
                    contestants[name] = make(case)
            names = list(contestants)
            calls = new_points.checked(request, label, case, contestants)
            measured = run.rounds(calls)
            rows.append([marked(label, measured), *(micro(measured.best(n)) for n in names)])
            if request in met:
                met[request][label] = decided(measured, measured.best(OURS) <= NEW_BARS[request])
        print(table([f"{request}, µs", *names], rows) + "\n", flush=True)
    for request, limit in NEW_BARS.items():
        print(bar(f"{request} at a new x at most {1e6 * limit:g} µs", met[request]))


# --- columns --------------------------------------------------------------------------------------


def section_columns(run) -> None:
    """32 vectors at once, per vector."""
    import numpy as np

    from benchmarks import hand
    from benchmarks.problems import make
    from nbhvp import differentiable

    rows, bars = [], []
    for label in run.labels(("logistic, 20000 x 500", LARGE_MLP)):
        problem = make(label)
        hessian = differentiable(problem.fun).hessian(problem.x0, *problem.args)
        V = np.random.default_rng(1).standard_normal((problem.x0.size, 32))
        V[:, 7] = problem.v
        check("32 columns", problem, lambda v, hessian=hessian, V=V: (hessian @ V)[:, 7])
        gemm, operations = hand.prepare_gemm()
        calls = {
            "single": lambda hessian=hessian, v=problem.v: hessian @ v,
            "32": lambda hessian=hessian, V=V: hessian @ V,
            GEMM: gemm,
            COPY: hand.prepare_copy(problem.floor.bytes, run.threads),
        }
        measured = run.rounds(calls)
        per_vector = measured.ratio("32", "single")
        rate = problem.floor.flops * 32 / operations / measured.ratio("32", GEMM).median
        floor = max(
            measured.best(COPY) / 32, gemm_seconds(problem.floor.flops, measured, operations)
        )
        times = floor, measured.best("single"), measured.best("32") / 32
        ratio = f"{per_vector.median / 32:.2f} ({per_vector.low / 32:.2f} to {per_vector.high / 32:.2f})"
        rows.append([marked(label, measured), *map(micro, times), ratio, f"{rate:.0%}"])
        if label == LARGE_MLP:
            bars.append(
                bar(
                    "large MLP at 85 % of the rate of dgemm",
                    {label: decided(measured, rate >= 0.85)},
                )
            )
        else:
            is_met = per_vector.median / 32 <= 0.3
            bars.append(
                bar("logistic at most 0.3 x a single product", {label: decided(measured, is_met)})
            )
    header = ["problem", "floor per vector, µs", "single, µs", "of 32, per vector, µs"]
    print(table([*header, "per vector / single", "rate / dgemm"], rows) + "\n")
    print("\n".join(bars))


# --- threads --------------------------------------------------------------------------------------


def serve(run) -> None:
    """A process of ``threads``: per line that names a problem, one round's medians of products."""
    from benchmarks import hand
    from benchmarks.measure import rounds
    from benchmarks.problems import make

    known = {}
    for line in sys.stdin:
        label = line.strip()
        if label not in known:
            known.clear()  # memory: one problem at a time
            problem = make(label)
            products = {HAND: by_hand(problem, run.threads), OURS: ours(problem)}
            calls = {
                name: (lambda product=product, v=problem.v: product(v))
                for name, product in products.items()
            }
            threads = hand.worthwhile(problem, run.threads)
            calls[COPY] = hand.prepare_copy(problem.floor.bytes, threads)
            if problem.floor.flops > 10**8:
                calls[GEMM] = hand.prepare_gemm()[0]
            known[label] = calls
        taken = rounds(known[label], 1, run.seconds)
        reply = {name: taken.best(name) for name in taken.medians}
        print(json.dumps([taken.disturbed, reply]), flush=True)


def section_threads(run) -> None:
    """Two threads over one: two processes, asked in turn for a round."""
    from benchmarks.measure import Rounds

    servers = {threads: _server(run, threads) for threads in (1, 2)}
    rows, better, worse = [], {}, {}
    for label in run.labels():
        taken = []
        for _ in range(run.count + 1):
            replies = {threads: _ask(server, label) for threads, server in servers.items()}
            seconds = {(k, t): s for t, (_, reply) in replies.items() for k, s in reply.items()}
            taken.append((any(disturbed for disturbed, _ in replies.values()), seconds))
        # The first round of a problem is the one that compiles.
        disturbed, seconds = tuple(zip(*taken[1:], strict=True))
        measured = Rounds(
            {key: [entry[key] for entry in seconds] for key in seconds[0]}, 0, sum(disturbed)
        )
        bound = GEMM if (GEMM, 1) in measured.medians else COPY
        gains = {name: measured.ratio((name, 1), (name, 2)) for name in (bound, HAND, OURS)}
        times = [measured.best((OURS, threads)) for threads in (1, 2)]
        rows.append(
            [marked(label, measured), *map(micro, times), *(str(gain) for gain in gains.values())]
        )
        if gains[bound].median >= 1.6:
            better[label] = decided(measured, gains[OURS].median >= 1.6)
        worse[label] = decided(measured, gains[OURS].median >= 1 / 1.1)
        print(f"  {label}: done", file=sys.stderr, flush=True)
    for server in servers.values():
        server.stdin.close()
        server.wait()
    header = ["problem", "nbhvp on 1, µs", "nbhvp on 2, µs"]
    print(table([*header, "gain of the floor", "gain by hand", "gain of nbhvp"], rows) + "\n")
    print(bar("two threads 1.6 x faster where the floor is", better))
    print(bar("two threads at most 1.1 x the time of one", worse))


def _server(run, threads):
    command = [sys.executable, __file__, "serve", "--threads", str(threads)]
    command += ["--quick"] * run.quick
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(server, label):
    server.stdin.write(f"{label}\n")
    server.stdin.flush()
    reply = server.stdout.readline()
    if not reply:
        raise RuntimeError(f"the process that measures {label} ended")
    return json.loads(reply)


# --- loops ----------------------------------------------------------------------------------------

LOOPS = ("Rosenbrock, n = 10^6", "surface, 1000 x 1000", "Lennard-Jones, 10^4 atoms")

FIRST_LOOPS = """
import sys, time
sys.path.insert(0, {root!r})
import numpy as np
import nbhvp
from benchmarks.loops import LOOPS, LORENZ_START, lorenz
from benchmarks.problems import make
label = {label!r}
if label:
    problem = make(label)
    fun, arguments = LOOPS[problem.name]
    x, args = problem.x0, arguments(problem)
else:
    fun, x, args = lorenz, LORENZ_START, (10_000,)
start = time.perf_counter()
fun(x, *args)
own = time.perf_counter() - start
f = nbhvp.differentiable(fun)
start = time.perf_counter()
f.hessian(x, *args) @ np.ones(x.size)
first = time.perf_counter() - start
again = nbhvp.differentiable(fun)
again(x, *args)
compiling, recording = (g.report().loops[0].record_seconds for g in (f, again))
print(own, compiling - recording, first)
"""


def section_loops(run) -> None:
    """Products of functions written as loops; what recording costs."""
    labels = run.labels(("Rosenbrock, n = 10^3",) if run.quick else LOOPS)
    _rolled_loops(run, labels)
    _forms(run)
    _loops_over_time(run)
    _first_loops(run, labels)


def _rolled_loops(run, labels):
    from benchmarks.loops import LOOPS as FUNCTIONS
    from benchmarks.problems import make
    from nbhvp import differentiable

    rows, alike, beside, recording = [], {}, {}, {}
    for label in labels:
        problem = make(label)
        fun, arguments = FUNCTIONS[problem.name]
        x, v, args = problem.x0, problem.v, arguments(problem)
        looped = differentiable(fun).hessian(x, *args).matvec
        check("loops", problem, looped)
        in_numpy = ours(problem)
        measured = run.rounds(
            {
                "loops": lambda looped=looped, v=v: looped(v),
                "NumPy": lambda in_numpy=in_numpy, v=v: in_numpy(v),
                "function": lambda fun=fun, x=x, args=args: fun(x, *args),
            }
        )
        ratios = [measured.ratio("loops", other) for other in ("NumPy", "function")]
        alike[label] = decided(measured, ratios[0].median <= 1.3)
        beside[label] = decided(measured, ratios[1].median <= 3.0)
        call = _recorded_again(fun, x, args)
        recording[label] = 1e9 * call.record_seconds / call.operations <= 6.0
        times = (measured.best(name) for name in ("function", "NumPy", "loops"))
        rows.append([marked(label, measured), *map(micro, times), *map(str, ratios)])
        rows[-1] += _costs(call)
        print(f"  {label}: done", file=sys.stderr, flush=True)
    header = ["problem", "function, µs", "product, NumPy, µs", "product, loops, µs"]
    header += ["loops / NumPy", "loops / function", "operations", "classes", "ns to record one"]
    print(table(header, rows) + "\n")
    print(bar("at most 1.3 x the function in NumPy", alike))
    print(bar("at most 3 x the compiled function itself", beside))
    print(bar("at most 6 ns to record an operation", recording) + "\n")


def _forms(run):
    """Products of functions in loops beside those of the same functions of arrays, and by hand."""
    import numpy as np

    from benchmarks.forms import FORMS
    from nbhvp import differentiable

    rows, alike, by_hand = [], {}, {}
    for label, (make, size) in FORMS.items():
        if run.only is not None and run.only.lower() not in label.lower():
            continue
        form = make(size // 50 if run.quick else size)
        x, args = form.x, form.args
        v = np.random.default_rng(1).standard_normal(x.size)
        looped = differentiable(form.loops).hessian(x, *args).matvec
        in_arrays = (
            differentiable(lambda x, form=form: form.arrays(x, *form.args)).hessian(x).matvec
        )
        assert np.allclose(looped(v), in_arrays(v), rtol=1e-9, atol=1e-9 * np.abs(looped(v)).max())
        calls = {"loops": lambda: looped(v), "arrays": lambda: in_arrays(v)}  # noqa: B023
        if form.prepare is not None:
            product, out = form.prepare(x, *args), np.empty_like(x)
            assert np.allclose(looped(v), product(v, out), rtol=1e-9, atol=1e-9 * np.abs(out).max())
            calls["by hand"] = lambda: product(v, out)  # noqa: B023
        measured = run.rounds(calls)
        ratio = measured.ratio("loops", "arrays")
        alike[label] = decided(measured, ratio.median <= 1.3)
        hand = measured.ratio("arrays", "by hand") if "by hand" in calls else None
        if hand is not None:
            by_hand[label] = decided(measured, hand.median <= 1.25)
        times = (micro(measured.best(name)) for name in ("arrays", "loops"))
        rows.append(
            [marked(label, measured), *times, str(ratio), "-" if hand is None else str(hand)]
        )
        print(f"  {label}: done", file=sys.stderr, flush=True)
    header = ["function", "arrays, µs", "loops, µs", "loops / arrays", "arrays / by hand"]
    print(table(header, rows) + "\n")
    print(bar("at most 1.3 x the function of arrays", alike))
    print(bar("arrays at most 1.25 x by hand", by_hand) + "\n")


def _recorded_again(fun, x, args):
    """The quickest of some recordings, when all is compiled."""
    from nbhvp import differentiable

    f = differentiable(fun, trace="always")
    calls = [f(x, *args) is not None and f.report().loops[0] for _ in range(4)]
    return min(calls, key=lambda call: call.record_seconds)


def _costs(call) -> list[str]:
    nanoseconds = 1e9 * call.record_seconds / call.operations
    return [f"{call.operations:,}", str(call.classes), f"{nanoseconds:.2f}"]


def _loops_over_time(run):
    """A deep recurrence, and what recording it costs."""
    import numpy as np

    from benchmarks import hand
    from benchmarks.loops import LORENZ_START, lorenz
    from nbhvp import differentiable

    steps = 1000 if run.quick else 10_000
    f, v = differentiable(lorenz), np.array([0.5, -1.0, 2.0])
    hessian = f.hessian(LORENZ_START, steps)
    product, moved = hessian.matvec, hessian.report().product
    # The system is chaotic: differences of its gradient have few digits.
    other = f.hvp(LORENZ_START, v, steps, mode="reverse-over-forward")
    assert np.allclose(product(v), other, rtol=1e-8)
    call = f.report().loops[0]
    copy = hand.prepare_copy(moved.read + moved.written)
    calls = {
        "product": lambda: product(v),
        COPY: copy,
        "function": lambda: lorenz(LORENZ_START, steps),
    }
    measured = run.rounds(calls)
    label = f"Lorenz, {steps:,} steps"
    each = 1e9 * measured.best("product") / call.operations
    times = (measured.best(name) for name in (COPY, "function", "product"))
    costs = _costs(_recorded_again(lorenz, LORENZ_START, (steps,)))
    rows = [
        [marked(label, measured), *map(micro, times), str(measured.ratio("product", "function"))]
    ]
    rows[0] += [*costs, f"{each:.2f}"]
    header = ["problem", "floor, µs", "function, µs", "product, µs", "product / function"]
    header += ["operations", "classes", "ns to record one", "ns in a product"]
    print(table(header, rows) + "\n")
    print(bar("at most 6 ns to record an operation", {label: float(costs[-1]) <= 6.0}))
    met = {label: decided(measured, each <= 1.0)}
    print(bar("at most 1 ns per operation and product", met) + "\n")


def _first_loops(run, labels):
    """Seconds of a fresh process with an empty cache of kernels; numba's own is filled."""
    rows, first, compiling = [], {}, {}
    with tempfile.TemporaryDirectory() as numba_cache:
        for label in ("", *labels):
            program = FIRST_LOOPS.format(root=str(ROOT), label=label)
            base = {"NUMBA_CACHE_DIR": numba_cache}
            with tempfile.TemporaryDirectory() as folder:
                fresh(program, base | {"NBHVP_CACHE_DIR": folder})
            with tempfile.TemporaryDirectory() as folder:
                environment = base | {"NBHVP_CACHE_DIR": folder}
                own, active, seconds = map(float, fresh(program, environment).split())
                _, _, again = map(float, fresh(program, environment).split())
            name = label or "Lorenz, 10^4 steps"
            first[name], compiling[name] = seconds <= 4.0, active <= 3.0 * own + 0.5
            rows.append([name, *(f"{t:.2f}" for t in (own, active, seconds, again))])
    header = ["problem", "numba's own, s", "for active numbers, s", "first product, s"]
    print(table([*header, "from filled caches, s"], rows) + "\n")
    print(bar("first product at most 4 s, with an empty cache of kernels", first))
    print(bar("compiled for active numbers in at most 3 x numba's own time + 0.5 s", compiling))


# --- recurrences ----------------------------------------------------------------------------------


def section_recurrences(run) -> None:
    """Products of loops over time at a fixed point, and their first ones in this process."""
    from benchmarks import recurrences

    rows, alike, at_once, ahead, bounded = [], {}, {}, {}, {}
    missing: dict[str, list[str]] = {}
    for label, problem in {**recurrences.LOOPS, **recurrences.FIELDS}.items():
        if run.only is not None and run.only.lower() not in label.lower():
            continue
        steps = min(problem.steps, 100) if run.quick else problem.steps
        calls, first, small = _recurrence(run, recurrences, label, steps, missing)
        measured = run.rounds(calls)
        hand = measured.ratio(OURS, HAND) if HAND in calls else None
        limit = 1.5 if isinstance(problem, recurrences.Loop) else 1.3 if "heat" in label else 2.0
        if hand is not None:
            alike[label] = decided(measured, hand.median <= limit)
        rivals = [name for name in recurrences.PEERS if name in calls]
        best = measured.fastest(rivals)
        lead = measured.ratio(best, OURS) if best else None
        if lead is not None:
            ahead[label] = decided(measured, lead.median >= 5.0)
        price = measured.ratio(small, OURS) if small else None
        if price is not None:
            bounded[label] = decided(measured, price.median <= 2.2)
        anew = measured.ratio(NEW_X, ONCE) if ONCE in calls else None
        if anew is not None:
            at_once[label] = decided(measured, anew.median <= 2.0)
        times = (micro(measured.best(name)) if name in calls else "-" for name in RECURRENCES)
        others = (str(ratio) if ratio is not None else "-" for ratio in (hand, anew, lead, price))
        firsts = (f"{first[name]:.2f}" if name in first else "-" for name in (OURS, *rivals))
        shown = ", ".join(firsts)
        rows.append([marked(f"{label}, {steps:,} steps", measured), *times, *others, shown])
        print(f"  {label}: done", file=sys.stderr, flush=True)
    header = ["problem", *(f"{name}, µs" for name in RECURRENCES)]
    header += [
        "nbhvp / by hand",
        "at a new x / by hand",
        "best peer / nbhvp",
        "memory / nbhvp",
        "first: nbhvp, peers, s",
    ]
    print(table(header, rows) + "\n")
    print(bar("steps of numbers at most 1.5 x by hand, fields 1.3, others 2", alike))
    print(bar("at a new x at most 2 x by hand", at_once))
    print(bar("5 x ahead of the best peer", ahead))
    print(bar("with a tenth of the memory at most 2.2 x", bounded))
    for line in _left_out(missing):
        print(line)


TENTH, EIGHT, CHECKPOINT = "memory / 10", "8 directions", "JAX checkpoint"
NEW_X, ONCE = "new x", "by hand, new x"
RECURRENCES = (HAND, OURS, NEW_X, ONCE, EIGHT, TENTH, "JAX", CHECKPOINT, "CasADi")


def _recurrence(run, recurrences, label, steps, missing):
    """Products of the contestants, the seconds of their first ones, and which has a bound."""
    import time

    import numpy as np

    from benchmarks.once import kepler
    from nbhvp import differentiable

    problem = {**recurrences.LOOPS, **recurrences.FIELDS}[label]
    x, fun = recurrences.point(problem, steps)[0], recurrences.fun(problem, steps)
    v, several = np.cos(np.arange(x.size)), np.cos(np.arange(8.0 * x.size)).reshape(-1, 8)
    first, calls = {}, {}

    def enter(name, make):
        start = time.process_time()
        product = make()
        if product is None:
            return
        found = product(v)
        first[name] = time.process_time() - start
        needed = calls[OURS]() if calls else found
        error = np.linalg.norm(found - needed) / np.linalg.norm(needed)
        # A chaotic system loses digits over its steps.
        if not error <= 1e-7:
            raise AssertionError(f"{name} on {label}: relative error {error:.1e}")
        calls[name] = lambda: product(v)

    f = differentiable(fun)
    enter(OURS, lambda: f.hessian(x).matvec)
    enter(HAND, lambda: recurrences.by_hand(problem, steps))
    once = differentiable(fun)
    enter(NEW_X, lambda: lambda v: once.hvp(x, v))
    points = itertools.cycle((x, x * (1 + 1e-12)))
    calls[NEW_X] = lambda: once.hvp(next(points), v)
    if label == "Kepler":
        enter(ONCE, lambda: lambda v: kepler(x, v, steps))
    H = f.hessian(x)
    if x.size < 10_000:
        H @ several
        calls[EIGHT] = lambda: H @ several[:, :8]
    small = None
    if label.startswith("heat"):
        small, bytes_kept = TENTH, f.report().state_bytes // 10
        bounded = differentiable(fun, memory=bytes_kept)
        enter(TENTH, lambda: bounded.hessian(x).matvec)
    peers = dict(recurrences.PEERS) if run.peers else {}
    if run.peers and small:
        segments = next(n for n in range(int(steps**0.5), 0, -1) if steps % n == 0)
        peers[CHECKPOINT] = partial(recurrences.PEERS["JAX"], segments=segments)
    for name, make in peers.items():
        try:
            enter(name, lambda make=make: make(problem, steps))
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            missing.setdefault(f"{name} ({reason})", []).append(label)
    return calls, first, small


# --- memory ---------------------------------------------------------------------------------------

MEMORY = """
import sys
sys.path.insert(0, {root!r})
import numpy as np
import nbhvp
from benchmarks.problems import make_rosenbrock

def peak(reset=False):
    if reset:
        open("/proc/self/clear_refs", "w").write("5")
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return 1024 * int(status["VmHWM" if not reset else "VmRSS"].split()[0])

small, n = make_rosenbrock(1000), {n}
f = nbhvp.differentiable(small.fun)
f.hvp(small.x0, small.v)
rng = np.random.default_rng(0)
x, v = rng.standard_normal(n), rng.standard_normal(n)
for point in (x, x + 1.0):
    before = peak(reset=True)
    result = f.hvp(point, v)
    print((peak() - before) / (8 * n) - 1)
    del result
"""


def section_memory(run) -> None:
    """Arrays of n beside x, v and the result: the growth of the resident memory's peak."""
    n = 10**6 if run.quick else 10**7
    first, again = map(float, fresh(MEMORY.format(root=str(ROOT), n=n), {}).split())
    header = [f"Rosenbrock, n = {n}", "arrays of n"]
    rows = [
        ["first product at this size", f"{first:.2f}"],
        ["product at another x", f"{again:.2f}"],
    ]
    print(table(header, rows) + "\n")
    print(bar("at most 2 arrays", {"first": first <= 2.0, "at another x": again <= 2.0}))


# --- sparse ---------------------------------------------------------------------------------------


def section_sparse(run) -> None:
    """Whole sparse Hessians, and what Newton's method gains by them."""
    from benchmarks import sparse

    sparse.section(run)


# --- gpu ------------------------------------------------------------------------------------------


def section_gpu(run) -> None:
    """Products on a GPU, beside JAX there; see ``benchmarks/gpu.sh``."""
    from benchmarks import gpu
    from nbhvp.targets.cuda.launching import libcuda

    if libcuda.has_device():
        gpu.section()
    else:
        print("There is no GPU with a driver.")


# --- the command line -----------------------------------------------------------------------------

SECTIONS = {
    "product": section_product,
    "point": section_point,
    "calls": section_calls,
    "new": section_new,
    "columns": section_columns,
    "models": section_models,
    "threads": section_threads,
    "loops": section_loops,
    "recurrences": section_recurrences,
    "first": first.section,
    "memory": section_memory,
    "sparse": section_sparse,
    "gpu": section_gpu,
}
OWN_PROCESSES = ("threads", "first", "memory")
"""Sections that choose threads by themselves, and so run once."""


def main() -> None:
    """Run the sections that the command line asks for, with each number of threads."""
    options = arguments()
    names = tuple(SECTIONS) if "all" in options.sections else options.sections
    if names == ["serve"]:
        confine(options.threads[0])
        serve(Run(options))
        return
    if len(options.threads) == 1 and not options.picture:
        one_process(options, names)
        return
    with tempfile.TemporaryDirectory() as folder:
        results = {}
        for k, threads in enumerate(options.threads):
            chosen = [name for name in names if k == 0 or name not in OWN_PROCESSES]
            if chosen:
                results[threads] = _in_child(options, chosen, threads, Path(folder) / f"{threads}")
        if options.picture:
            draw({t: data["product"] for t, data in results.items()}, options.picture)


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)}, or all")
    add("--threads", type=int, nargs="+", default=[2], help="threads; several run one by one")
    add("--quick", action="store_true", help="small sizes, few and short rounds")
    add("--only", help="rows whose label has this in it")
    add("--rounds", type=int, default=1, help="fresh processes of each kind in the section first")
    add("--peers", action=argparse.BooleanOptionalAction, default=True, help="measure the peers")
    add("--picture", type=Path, help="draw the products to this file (needs matplotlib)")
    add("--save", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.sections = options.sections or ["product"]
    unknown = set(options.sections) - {*SECTIONS, "all", "serve"}
    if unknown:
        parser.error(f"sections are {', '.join(SECTIONS)} and all, not {', '.join(unknown)}")
    if options.picture and not {"product", "all"} & set(options.sections):
        parser.error("--picture draws the section product")
    return options


def one_process(options, names) -> None:
    """Run sections here."""
    confine(options.threads[0])
    import numba
    import numpy

    run = Run(options)
    print(
        f"{platform.machine()}, Python {platform.python_version()}, NumPy {numpy.__version__}, "
        f"numba {numba.__version__}, {run.threads} thread(s), {run.count} rounds{_ceilings(run)}\n"
    )
    for name in names:
        print(f"### {name}\n")
        SECTIONS[name](run)
        if name not in ("first", "memory"):
            print("\n\\* others used the processors in some of the rounds that are kept.")
        print(flush=True)
    if options.save:
        options.save.write_text(json.dumps(run.data))


def _ceilings(run) -> str:
    from benchmarks import hand

    gemm, operations = hand.prepare_gemm()
    moved = 2**28
    measured = run.rounds({COPY: hand.prepare_copy(moved, run.threads), GEMM: gemm})
    rates = (1e-9 * amount / measured.best(k) for k, amount in ((COPY, moved), (GEMM, operations)))
    return "; copy {:.0f} GB/s, dgemm {:.0f} GFLOP/s".format(*rates)


def _in_child(options, names, threads, saved) -> dict:
    command = [sys.executable, __file__, *names, "--threads", str(threads), "--save", str(saved)]
    command += ["--quick"] * options.quick + ["--no-peers"] * (not options.peers)
    command += ["--rounds", str(options.rounds)]
    command += ["--only", options.only] if options.only else []
    subprocess.run(command, check=True)
    return json.loads(saved.read_text())


def draw(results: dict, path: Path) -> None:
    """Every contestant's time over that by hand, a panel per number of threads."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(results), figsize=(1 + 4.5 * len(results), 4.5), sharey=True, squeeze=False
    )
    styles = {HAND: ("k", "|"), OURS: ("C3", "o")} | dict(
        zip(PEERS, zip(("C0", "C0", "C1", "C2", "C4"), "^vsDx", strict=True), strict=True)
    )
    for axis, (threads, rows) in zip(axes[0], results.items(), strict=True):
        for name, (colour, marker) in styles.items():
            points = [
                (row[name] / row[HAND], k) for k, row in enumerate(rows.values()) if name in row
            ]
            if points:
                axis.plot(*zip(*points, strict=True), marker, color=colour, label=name, ms=5)
        axis.set(xscale="log", xlabel="time / by hand", title=f"{threads} thread(s)")
        axis.set_yticks(range(len(rows)), list(rows))
        axis.grid(True, which="both", lw=0.3)
    axes[0, 0].invert_yaxis()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
