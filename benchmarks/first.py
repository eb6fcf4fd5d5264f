"""From a fresh process to the first gradient and product: the package, JAX, autograd.

Each contestant has a process of its own, which imports NumPy and SciPy, then the package, then makes
the problem, and measures by the wall clock and in processor seconds from there: a gradient (with its
value), and a product after it, as a solver asks for them. All caches are empty (cold), or hold what
the process before left there (warm): kernels, Numba's files, JAX's compilation cache. The contestants
take turns within a round; figures are medians over rounds. Results are compared with the package's.

JAX gets ``jit`` of ``value_and_grad`` and of the jvp of the gradient, in float64, arrays of data as
arguments; autograd ``value_and_grad`` and ``make_hvp``.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from benchmarks.tables import bar, caches, fresh, reason, table

OURS, JAX, AUTOGRAD = "nbhvp", "JAX", "autograd"
LARGE_MLP = "MLP 784-256-128-10, batch 512"
QUICK = ("5 variables", "Rosenbrock, n = 10^3", "Poisson regression, 500 x 12")

SECOND = {
    "Rosenbrock, n = 10": 1003,
    "Rosenbrock, n = 10^3": 1003,
    "Rosenbrock, n = 10^6": 1003,
    "logistic, 1000 x 20": (900, 23),
    "logistic, 20000 x 500": (900, 123),
    "MLP 10-16-1, batch 64": ((11, 15, 1), 60),
    LARGE_MLP: ((300, 200, 100, 9), 400),
    "surface, 1000 x 1000": (300, 400),
    "Lennard-Jones, 10^4 atoms": (1000, 30),
    "mixture, 1000 x 10, K = 25": (900, 9, 20),
    "Gaussians, 1000 x 2, K = 5": (900, 2, 6),
    "Gaussians, 1000 x 10, K = 25": (900, 10, 20),
}
"""A second size of the same function, which must find all its kernels compiled."""


# --- one contestant, in its process ---------------------------------------------------------------

PROCESS = """
import time
start = time.perf_counter(), time.process_time()
import sys, numpy, scipy.optimize
base = time.perf_counter(), time.process_time()
{package}
package = time.perf_counter(), time.process_time()
from benchmarks.first import measure
measure(*sys.argv[1:], start, base, package)
"""

PACKAGES = {
    OURS: "import nbhvp",
    JAX: "import jax, jax.numpy, jax.scipy.special",
    AUTOGRAD: "import autograd, autograd.numpy, autograd.scipy.special",
}


def measure(contestant: str, label: str, results: str, start, base, package) -> None:
    """Print the seconds (wall, processors) of one process; save its gradient and product."""
    import numpy as np

    calls, second = CONTESTANTS[contestant](label)
    times, found = [_now()], []
    for call in calls:
        found.append(np.array(next(call) if isinstance(call, Iterator) else call()))
        times.append(_now())
    np.savez(results, gradient=found[0], product=found[1])
    spans = {"base": (start, base), "import": (base, package)}
    spans |= {"gradient": times[:2], "product": times[1:]}
    seconds = {k: [b - a for a, b in zip(*span, strict=True)] for k, span in spans.items()}
    print(json.dumps(seconds | second()))


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _ours(label):
    import nbhvp

    fun, x, v, args = _user_function(label)
    f = []

    def gradient():
        f.append(nbhvp.differentiable(fun))
        return f[0].value_and_grad(x, *args)[1]

    return (gradient, lambda: f[0].hvp(x, v, *args)), partial(_second, label)


def _user_function(label):
    from benchmarks.problems import SUITE, make
    from benchmarks.programs import PROGRAMS

    if label in SUITE:
        problem = make(label)
        return problem.fun, problem.x0, problem.v, problem.args
    program = PROGRAMS[label]
    return program.fun, *program.make()


def _second(label):
    """Kernels compiled, and compiled for a second size."""
    from benchmarks.problems import MAKERS, SUITE
    from nbhvp import differentiable
    from nbhvp.targets.native.cache import counts

    compiled, other = counts().compiled, {}
    if label in SECOND:
        problem = MAKERS[SUITE[label][0]](SECOND[label])
        f = differentiable(problem.fun)
        f.value_and_grad(problem.x0, *problem.args)
        f.hvp(problem.x0, problem.v, *problem.args)
        other = {"second": counts().compiled - compiled}
    return {"kernels": compiled} | other


def _peer_function(label, namespace, logsumexp, fold):
    """``fun(x, *arrays)`` over a namespace, x, v, arrays."""
    import numpy as np

    from benchmarks import peers
    from benchmarks.problems import SUITE, make
    from benchmarks.programs import PROGRAMS, over

    if label in SUITE:
        problem = make(label)
        call, arrays = peers.arrays_and_rest(problem)
        return partial(call, namespace, logsumexp), problem.x0, problem.v, arrays
    program = PROGRAMS[label]
    x, v, args = program.make()
    form = over(program.form or program.text, np=namespace, logsumexp=logsumexp, fold=fold)

    def fun(x, *arrays):
        given = iter(arrays)
        return form(x, *(next(given) if isinstance(a, np.ndarray) else a for a in args))

    return fun, x, v, [a for a in args if isinstance(a, np.ndarray)]


def _jax(label):
    import jax

    jax.config.update("jax_enable_x64", True)

    def fold(step, state, rows):
        return jax.lax.scan(lambda state, row: (step(state, row), None), state, rows)[0]

    fun, x, v, arrays = _peer_function(label, jax.numpy, jax.scipy.special.logsumexp, fold)
    moved = []

    def gradient():
        moved.extend(map(jax.numpy.asarray, (x, *arrays)))
        return jax.jit(jax.value_and_grad(fun))(*moved)[1]

    @jax.jit
    def product(x, v, *arrays):
        return jax.jvp(lambda x: jax.grad(fun)(x, *arrays), (x,), (v,))[1]

    return (gradient, lambda: product(moved[0], v, *moved[1:])), dict


def _autograd(label):
    import autograd
    from autograd.scipy.special import logsumexp

    from benchmarks.programs import fold

    fun, x, v, arrays = _peer_function(label, autograd.numpy, logsumexp, fold)
    gradient = lambda: autograd.value_and_grad(fun)(x, *arrays)[1]
    return (gradient, lambda: autograd.make_hvp(fun)(x, *arrays)[0](v)), dict


CONTESTANTS: dict[str, Callable] = {OURS: _ours, JAX: _jax, AUTOGRAD: _autograd}


# --- all of them ----------------------------------------------------------------------------------


def section(run) -> None:
    """Seconds to the first gradient and product, cold and warm, beyond the imports."""
    rows, measured, missing = [], {}, {}
    contestants = [name for name in PACKAGES if name == OURS or (run.peers and _is_installed(name))]
    for label in labels(run):
        measured[label] = _measured(label, contestants, run.processes, missing)
        rows.append(_row(label, measured[label], contestants))
        print(" ", *rows[-1], sep=" | ", file=sys.stderr, flush=True)
    print(table(_header(contestants), rows) + "\n")
    print("Seconds of the wall clock; in brackets seconds of the processors.\n")
    lines = (_imports(measured, contestants), _ratio_bars(measured), _bars(measured))
    for line in (*chain(*lines), *_left_out(missing)):
        print(line)


def labels(run) -> list[str]:
    """The suite without its largest problem, and the programs."""
    from benchmarks.programs import PROGRAMS

    known = QUICK if run.quick and run.only is None else ("5 variables", *SECOND, *PROGRAMS)
    return [label for label in known if run.only is None or run.only.lower() in label.lower()]


def _is_installed(name):
    try:
        fresh(PACKAGES[name].splitlines()[0], {})
    except RuntimeError:
        return False
    return True


def _measured(label, contestants, rounds, missing):
    """Medians by contestant and cache, as ``{("nbhvp", "cold"): {"gradient": (wall, cpu)}}``."""
    taken: dict = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name in contestants:
                for cache in ("cold", "warm")[: 1 if name == AUTOGRAD else 2]:
                    # What a peer cannot do is said below the table; its cell stays empty.
                    try:
                        times = _process(name, label, Path(folder))
                    except (RuntimeError, AssertionError) as error:
                        if name == OURS:
                            raise
                        missing.setdefault(f"{name} ({reason(error)})", []).append(label)
                        break
                    taken.setdefault((name, cache), []).append(times)
    return {key: _medians(found) for key, found in taken.items()}


def _process(name, label, folder) -> dict:
    """One process; its results must be the package's."""
    import numpy as np

    results = folder / f"{name}.npz"
    printed = fresh(
        PROCESS.format(package=PACKAGES[name]), caches(folder), name, label, str(results)
    )
    needed, found = np.load(folder / f"{OURS}.npz"), np.load(results)
    if name != OURS:
        for key in needed:
            error = np.linalg.norm(found[key] - needed[key]) / np.linalg.norm(needed[key])
            assert error <= 1e-8, f"{name} on {label}: {key} differs by {error:.1e}"
    return json.loads(printed)


def _medians(found):
    return {
        key: [statistics.median(parts) for parts in zip(*(t[key] for t in found), strict=True)]
        if isinstance(found[0][key], list)
        else found[0][key]
        for key in found[0]
    }


COLUMNS = (("gradient", "cold"), ("product", "cold"), ("gradient", "warm"), ("product", "warm"))


def _header(contestants):
    header = ["problem"]
    for key, cache in COLUMNS:
        names = [n for n in contestants if (n, cache) != (AUTOGRAD, "warm")]
        header += [f"{key}, {cache}: {names[0]}", *names[1:]]
    return [*header, "kernels", "for a second size"]


def _row(label, times, contestants):
    cells = [label]
    for key, cache in COLUMNS:
        for name in contestants:
            if (name, cache) != (AUTOGRAD, "warm"):
                span = times.get((name, cache), {}).get(key)
                cells.append(f"{span[0]:.2f} ({span[1]:.2f})" if span else "")
    cold = times[OURS, "cold"]
    return [*cells, str(cold["kernels"]), str(cold.get("second", ""))]


def _imports(measured, contestants):
    """The fewest seconds of imports over all processes."""
    for key, name in [("base", OURS), *(("import", name) for name in contestants)]:
        found = [t[k][key] for t in measured.values() for k in t if k[0] == name]
        if found:
            wall, processors = map(min, zip(*found, strict=True))
            words = "numpy, scipy.optimize" if key == "base" else f"{name}, after these"
            yield f"- import {words}: {wall:.3f} s ({processors:.3f})."


def _ratio_bars(measured):
    from benchmarks.measure import geometric_mean

    for key, cache in COLUMNS:
        for k, clock in enumerate(("wall", "processors")):
            ratios = {
                label: times[OURS, cache][key][k] / times[JAX, cache][key][k]
                for label, times in measured.items()
                if (JAX, cache) in times
            }
            if ratios:
                mean, worst = geometric_mean(ratios.values()), max(ratios, key=ratios.get)
                of = f"{key}, {cache}, {clock}"
                yield bar(f"{of}: at most JAX's in the mean: {mean:.2f}", {"it": mean <= 1.0})
                met = {f"{label} {r:.1f}": r <= 2.0 for label, r in ratios.items()}
                yield bar(f"{of}: none above 2 x JAX's: {worst} {ratios[worst]:.2f}", met)


def _bars(measured):
    imports = [
        times[key]["import"][0] for times in measured.values() for key in times if key[0] == OURS
    ]
    met = {f"{min(imports):.3f}": min(imports) <= 0.1}
    yield bar("`import nbhvp` at most 0.1 s beyond numpy and scipy.optimize", met)
    warm = {
        label: sum(times[OURS, "warm"][key][0] for key in ("import", "gradient", "product"))
        for label, times in measured.items()
    }
    met = {f"{label} {seconds:.2f}": seconds <= 0.15 for label, seconds in warm.items()}
    yield bar("warm, from the import to the first product, at most 0.15 s", met)
    second = {label: times[OURS, "cold"].get("second", 0) for label, times in measured.items()}
    yield bar("a second size compiles nothing", {label: n == 0 for label, n in second.items()})


def _left_out(missing):
    for why, places in missing.items():
        yield f"- left out: {why}: {', '.join(places)}."
