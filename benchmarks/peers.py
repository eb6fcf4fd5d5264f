"""The problems of the suite in JAX, PyTorch, CasADi and autograd: the extra ``peers``.

``PEERS[name](problem, threads)`` returns ``product(v) -> H(x0) v``, NumPy arrays in and out, with
all that the package can do at a fixed point done beforehand; None where it cannot have the problem;
ImportError where it is not installed. Each problem is written as a user of that package would:

- JAX and autograd: the NumPy text, over their namespace, with their own ``logsumexp``. JAX compiles
  jvp of grad as one function of x and v, or the linearisation at x. Data are arguments of the
  compiled functions, as constants of 80 MB would be folded for minutes;
- PyTorch: the gradient's graph at x is kept, and pulled back along v (H is symmetric); or jvp of
  grad where that is faster;
- CasADi: the product of its sparse reverse and forward modes as one function of x and v, in
  scalars (SX) for functions of up to 1000 variables that are written in scalars, else in matrices
  (MX); as C through the compiler at hand, else in CasADi's virtual machine, through buffers, as
  its own conversions from NumPy cost more than the small products.

All obey the processors that this process may use, the caller having set them; PyTorch is told in
addition.
"""

import os
import shutil
import subprocess
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy  # the functions of a namespace call that np
import numpy as np
import scipy.sparse

__all__ = ["PEERS"]

COMPILE_SECONDS = 120
"""After this the C compiler is given up, and CasADi's virtual machine runs the function."""


# --- over a NumPy-like namespace: JAX and autograd -----------------------------------------------


def _rosenbrock(np, logsumexp, x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def _logistic(np, logsumexp, w, X, y, l2):
    return np.mean(np.logaddexp(0.0, -y * (X @ w))) + 0.5 * l2 * (w @ w)


def _mlp(np, logsumexp, x, X, labels, widths, l2):
    a, at = X, 0
    for depth, (n_in, n_out) in enumerate(pairwise(widths)):
        W = x[at : at + n_in * n_out].reshape(n_in, n_out)
        at += n_in * n_out
        z = a @ W + x[at : at + n_out]
        at += n_out
        a = np.tanh(z) if depth < len(widths) - 2 else z
    if widths[-1] == 1:
        loss = np.mean(np.logaddexp(0.0, (1.0 - 2.0 * labels) * z[:, 0]))
    else:
        loss = np.mean(logsumexp(z, axis=1) - z[np.arange(len(labels)), labels])
    return loss + 0.5 * l2 * np.sum(x**2)


def _surface(np, logsumexp, x, frame, k):
    m, n = frame.shape
    z = np.pad(x.reshape(m - 2, n - 2), 1, "constant") + frame
    p, q = z[1:, 1:] - z[:-1, :-1], z[1:, :-1] - z[:-1, 1:]
    return np.sum(np.sqrt(1.0 + k * (p**2 + q**2))) / ((m - 1) * (n - 1))


def _lennard_jones(np, logsumexp, x, i, j):
    positions = x.reshape(-1, 3)
    d = positions[i] - positions[j]
    attraction = 1.0 / np.sum(d**2, axis=1) ** 3
    return 4.0 * np.sum(attraction**2 - attraction)


def _mixture(np, logsumexp, x, y, components):
    dimensions = y.shape[1]
    a = x[:components]
    means, log_scales = x[components:].reshape(2, components, dimensions)
    t = (y[:, None, :] - means) * np.exp(-log_scales)
    density = a - np.sum(log_scales, axis=1) - 0.5 * np.sum(t**2, axis=2)
    constant = 0.5 * dimensions * np.log(2.0 * np.pi)
    return logsumexp(a, axis=0) - np.mean(logsumexp(density, axis=1)) + constant


def _gaussians(np, logsumexp, x, y, components, g):
    """Triangular matrices by one gather: neither namespace writes into arrays."""
    samples, d = y.shape
    a, means = x[:components], x[components : components * (1 + d)].reshape(components, d)
    factors = x[components * (1 + d) :].reshape(components, -1)
    logs, below = factors[:, :d], factors[:, d:]
    entries = np.concatenate([np.exp(logs), below, np.zeros((components, 1))], axis=1)
    place = numpy.full((d, d), -1)
    place[numpy.arange(d), numpy.arange(d)] = numpy.arange(d)
    place[numpy.tril_indices(d, -1)] = d + numpy.arange(d * (d - 1) // 2)
    t = np.einsum("kij,nkj->nki", entries[:, place], y[:, None, :] - means)
    density = a + np.sum(logs, axis=1) - 0.5 * np.sum(t**2, axis=2)
    prior = 0.5 * g**2 * (np.sum(np.exp(logs) ** 2) + np.sum(below**2))
    return np.sum(logsumexp(density, axis=1)) - samples * logsumexp(a, axis=0) + prior


def _transcendental(np, logsumexp, x):
    a, b, c, d, e = x[0], x[1], x[2], x[3], x[4]
    curved = np.tanh(e) * np.log(1.0 + d**2) + np.cos(d * e) * np.sqrt(1.0 + a**2)
    return np.exp(a * b) * np.sin(c) + curved


FUNCTIONS = {
    "rosenbrock": (_rosenbrock, ()),
    "logistic": (_logistic, ("X", "y", "l2")),
    "mlp": (_mlp, ("X", "labels", "widths", "l2")),
    "surface": (_surface, ("frame", "k")),
    "lennard_jones": (_lennard_jones, ("i", "j")),
    "mixture": (_mixture, ("y", "components")),
    "gaussians": (_gaussians, ("y", "components", "g")),
    "transcendental": (_transcendental, ()),
}
"""By problem: the function of a namespace, its logsumexp, x and data; the names of the data."""


def arrays_and_rest(problem):
    """The function, its data that are arrays, and how to call it with these alone."""
    fun, names = FUNCTIONS[problem.name]
    data = [problem.data[name] for name in names]
    arrays = [value for value in data if isinstance(value, np.ndarray)]

    def call(namespace, logsumexp, x, *given):
        given = iter(given)
        full = [next(given) if isinstance(value, np.ndarray) else value for value in data]
        return fun(namespace, logsumexp, x, *full)

    return call, arrays


def _jax(problem, prepare):
    import jax

    jax.config.update("jax_enable_x64", True)
    if problem.name not in FUNCTIONS:
        return None
    call, arrays = arrays_and_rest(problem)

    def gradient(x, data):
        return jax.grad(lambda x: call(jax.numpy, jax.scipy.special.logsumexp, x, *data))(x)

    x, data = jax.numpy.asarray(problem.x0), [jax.numpy.asarray(a) for a in arrays]
    compiled, held = prepare(jax, gradient, x, data)
    return lambda v: np.asarray(compiled(*held, v))


def _jax_jvp(problem, threads):
    def prepare(jax, gradient, x, data):
        def product(x, data, v):
            return jax.jvp(lambda x: gradient(x, data), (x,), (v,))[1]

        return jax.jit(product), (x, data)

    return _jax(problem, prepare)


def _jax_linearize(problem, threads):
    def prepare(jax, gradient, x, data):
        linear = jax.jit(lambda x: jax.linearize(lambda x: gradient(x, data), x)[1])(x)
        return jax.jit(lambda linear, v: linear(v)), (linear,)

    return _jax(problem, prepare)


def _autograd(problem, threads):
    import autograd.numpy
    from autograd import make_hvp
    from autograd.scipy.special import logsumexp

    if problem.name not in FUNCTIONS:
        return None
    call, arrays = arrays_and_rest(problem)
    product, _ = make_hvp(lambda x: call(autograd.numpy, logsumexp, x, *arrays))(problem.x0)
    return product


# --- PyTorch -------------------------------------------------------------------------------------


def _torch_function(torch, problem):
    data = problem.data
    tensor = {k: torch.from_numpy(a) for k, a in data.items() if isinstance(a, np.ndarray)}

    def rosenbrock(x):
        return torch.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    def logistic(w):
        margins = tensor["y"] * (tensor["X"] @ w)
        return torch.nn.functional.softplus(-margins).mean() + 0.5 * data["l2"] * (w @ w)

    def mlp(x):
        a, at, widths = tensor["X"], 0, data["widths"]
        for depth, (n_in, n_out) in enumerate(pairwise(widths)):
            W = x[at : at + n_in * n_out].view(n_in, n_out)
            at += n_in * n_out
            z = torch.addmm(x[at : at + n_out], a, W)
            at += n_out
            a = torch.tanh(z) if depth < len(widths) - 2 else z
        if widths[-1] == 1:
            labels = tensor["labels"].to(torch.float64)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(z[:, 0], labels)
        else:
            loss = torch.nn.functional.cross_entropy(z, tensor["labels"])
        return loss + 0.5 * data["l2"] * torch.sum(x**2)

    def surface(x):
        m, n = data["frame"].shape
        z = torch.nn.functional.pad(x.view(m - 2, n - 2), (1, 1, 1, 1)) + tensor["frame"]
        p, q = z[1:, 1:] - z[:-1, :-1], z[1:, :-1] - z[:-1, 1:]
        return torch.sqrt(1.0 + data["k"] * (p**2 + q**2)).sum() / ((m - 1) * (n - 1))

    def lennard_jones(x):
        positions = x.view(-1, 3)
        # index_select has a faster transpose than positions[i].
        d = positions.index_select(0, tensor["i"]) - positions.index_select(0, tensor["j"])
        attraction = 1.0 / (d**2).sum(1) ** 3
        return 4.0 * torch.sum(attraction**2 - attraction)

    def mixture(x):
        components, dimensions = data["components"], data["y"].shape[1]
        a = x[:components]
        means, log_scales = x[components:].view(2, components, dimensions)
        t = (tensor["y"][:, None, :] - means) * torch.exp(-log_scales)
        density = a - log_scales.sum(1) - 0.5 * (t**2).sum(2)
        return torch.logsumexp(a, 0) - torch.logsumexp(density, 1).mean()

    def transcendental(x):
        a, b, c, d, e = x.unbind()
        curved = torch.tanh(e) * torch.log(1 + d**2) + torch.cos(d * e) * torch.sqrt(1 + a**2)
        return torch.exp(a * b) * torch.sin(c) + curved

    known = (rosenbrock, logistic, mlp, surface, lennard_jones, mixture, transcendental)
    return {function.__name__: function for function in known}.get(problem.name)


def _torch(problem, threads):
    import torch

    torch.set_num_threads(threads)
    fun = _torch_function(torch, problem)
    if fun is None:
        return None
    x = torch.from_numpy(problem.x0).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(fun(x), x, create_graph=True)

    def pulled(v):
        direction = torch.from_numpy(v)
        return torch.autograd.grad(gradient, x, direction, retain_graph=True)[0].numpy()

    primal, grad = x.detach(), torch.func.grad(fun)

    def pushed(v):
        return torch.func.jvp(grad, (primal,), (torch.from_numpy(v),))[1].numpy()

    return min((pulled, pushed), key=lambda product: _seconds(product, problem.v))


def _seconds(product, v):
    """Of the best of three calls; infinite where the package lacks a rule of a rule."""
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        try:
            product(v)
        except (NotImplementedError, RuntimeError):
            return float("inf")
        best = min(best, time.perf_counter() - start)
    return best


# --- CasADi --------------------------------------------------------------------------------------


def _casadi_function(casadi, problem):
    """The symbols x, the value, and pairs of symbols and arrays: matrices that stay inputs.

    Matrices are stored by columns there: all of them are the transposes of NumPy's.
    """
    name, data, n = problem.name, problem.data, problem.x0.size
    inputs = []

    def matrix(array):
        array = np.asarray(array, dtype=np.float64)
        array = array if array.ndim == 2 else array[None, :]
        symbol = casadi.MX.sym("data", array.shape[1], array.shape[0])
        inputs.append((symbol, np.ascontiguousarray(array)))
        return symbol

    if name in ("rosenbrock", "transcendental"):
        x = (casadi.SX if n <= 1000 else casadi.MX).sym("x", n)
        if name == "rosenbrock":
            residual, offset = x[1:] - x[:-1] ** 2, 1.0 - x[:-1]
            return x, 100.0 * casadi.sumsqr(residual) + casadi.sumsqr(offset), inputs
        a, b, c, d, e = casadi.vertsplit(x)
        curved = casadi.tanh(e) * casadi.log(1 + d**2) + casadi.cos(d * e) * casadi.sqrt(1 + a**2)
        return x, casadi.exp(a * b) * casadi.sin(c) + curved, inputs
    x = casadi.MX.sym("x", n)
    if name == "logistic":
        XT, y = matrix(data["X"]), matrix(data["y"])
        margins = y * casadi.mtimes(XT.T, x)
        loss = casadi.sum1(_softplus(casadi, -margins)) / data["y"].size
        return x, loss + 0.5 * data["l2"] * casadi.sumsqr(x), inputs
    if name == "mlp":
        return x, _casadi_mlp(casadi, x, matrix, data), inputs
    if name == "surface":
        m, k = data["frame"].shape[0] - 2, data["frame"].shape[1] - 2
        inner, zero = casadi.reshape(x, k, m), casadi.DM.zeros
        rows = casadi.vertcat(zero(1, m), inner, zero(1, m))
        z = casadi.horzcat(zero(k + 2, 1), rows, zero(k + 2, 1)) + matrix(data["frame"])
        p, q = z[1:, 1:] - z[:-1, :-1], z[:-1, 1:] - z[1:, :-1]
        area = casadi.sqrt(1.0 + data["k"] * (p**2 + q**2))
        return x, casadi.sum1(casadi.vec(area)) / ((m + 1) * (k + 1)), inputs
    if name == "lennard_jones":
        positions = casadi.reshape(x, 3, n // 3)
        d = positions[:, data["i"].tolist()] - positions[:, data["j"].tolist()]
        attraction = 1.0 / casadi.sum1(d**2) ** 3
        return x, 4.0 * casadi.sum2(attraction**2 - attraction), inputs
    if name == "mixture":
        return x, _casadi_mixture(casadi, x, matrix, data), inputs
    return None


def _softplus(casadi, z):
    return casadi.fmax(z, 0.0) + casadi.log1p(casadi.exp(-casadi.fabs(z)))


def _casadi_mlp(casadi, x, matrix, data):
    a, at, widths, batch = matrix(data["X"]), 0, data["widths"], data["labels"].size
    for depth, (n_in, n_out) in enumerate(pairwise(widths)):
        W = casadi.reshape(x[at : at + n_in * n_out], n_out, n_in)
        at += n_in * n_out
        z = casadi.mtimes(W, a) + casadi.repmat(x[at : at + n_out], 1, batch)
        at += n_out
        a = casadi.tanh(z) if depth < len(widths) - 2 else z
    if widths[-1] == 1:
        loss = casadi.sum2(_softplus(casadi, matrix(1.0 - 2.0 * data["labels"]).T * z))
    else:
        # Logits of order one: the shift by the largest would only be in the way of derivatives.
        onehot = matrix(np.eye(widths[-1])[data["labels"]])
        loss = casadi.sum2(casadi.log(casadi.sum1(casadi.exp(z))) - casadi.sum1(onehot * z))
    return loss / batch + 0.5 * data["l2"] * casadi.sumsqr(x)


def _casadi_mixture(casadi, x, matrix, data):
    (samples, dimensions), components = data["y"].shape, data["components"]
    y, size = matrix(data["y"]), components * dimensions
    means = casadi.reshape(x[components : components + size], dimensions, components)
    log_scales = casadi.reshape(x[components + size :], dimensions, components)
    densities = []
    for k in range(components):
        scale = casadi.repmat(casadi.exp(-log_scales[:, k]), 1, samples)
        t = (y - casadi.repmat(means[:, k], 1, samples)) * scale
        densities.append(x[k] - casadi.sum1(log_scales[:, k]) - 0.5 * casadi.sum1(t**2))
    density = casadi.vertcat(*densities)
    shift = casadi.mmax(casadi.vec(density)) if components == 1 else densities[0]
    for other in densities[1:]:
        shift = casadi.fmax(shift, other)
    spread = casadi.exp(density - casadi.repmat(shift, components, 1))
    likelihood = casadi.sum2(shift + casadi.log(casadi.sum1(spread)))
    weight = casadi.log(casadi.sum1(casadi.exp(x[:components])))
    return weight - likelihood / samples + 0.5 * dimensions * np.log(2.0 * np.pi)


def _casadi(problem, threads):
    import casadi

    built = _casadi_function(casadi, problem)
    if built is None:
        return None
    x, value, inputs = built
    v = type(x).sym("v", x.shape[0])
    gradient = casadi.gradient(value, x)
    product = casadi.densify(casadi.jtimes(gradient, x, v))
    symbols, arrays = zip(*inputs, strict=True) if inputs else ((), ())
    function = casadi.Function("product", [x, v, *symbols], [product])
    return _buffered(_in_c(casadi, function) or function, problem.x0, arrays)


def casadi_hessian(problem):
    """``hessian()`` by CasADi as a sparse matrix of its own, and its pattern; None without a function.

    The faster of two: vectors as they are, through the C compiler, or scalar by scalar in CasADi's
    virtual machine.
    """
    import casadi

    built = _casadi_function(casadi, problem)
    if built is None:
        return None
    x, value, inputs = built
    symbols, arrays = zip(*inputs, strict=True) if inputs else ((), ())
    function = casadi.Function("product", [x, *symbols], [casadi.hessian(value, x)[0]])
    scalars = function.expand("scalars", {"allow_free": False}) if not inputs else function
    data = [np.ascontiguousarray(array, float) for array in (problem.x0, *arrays)]
    out = np.empty(function.nnz_out(0))
    best = None
    for made in (_in_c(casadi, function) or function, scalars):
        buffer, evaluate = made.buffer()
        for k, array in enumerate(data):
            buffer.set_arg(k, memoryview(array))
        buffer.set_res(0, memoryview(out))
        seconds = min(_taken(evaluate) for _ in range(3))
        if best is None or seconds < best[0]:
            best = seconds, evaluate, buffer
    rows, columns = map(np.array, function.sparsity_out(0).get_triplet())
    return best[1], (rows, columns), out, (best, data)


def asdex_hessian(problem):
    """``hessian()`` by asdex, compiled by JAX: its pattern and star colouring are found before.

    Gives what computes it, and how to look at it as SciPy's.
    """
    import asdex
    import jax

    jax.config.update("jax_enable_x64", True)
    call, arrays = arrays_and_rest(problem)
    data = [jax.numpy.asarray(array) for array in arrays]
    x = jax.numpy.asarray(problem.x0)

    def value(x):
        return call(jax.numpy, jax.scipy.special.logsumexp, x, *data)

    colouring = asdex.hessian_coloring(value, x)
    compiled = jax.jit(asdex.hessian_from_coloring(value, colouring))

    def as_scipy():
        found = compiled(x)
        rows, columns = np.asarray(found.indices).T
        return scipy.sparse.csc_array((np.asarray(found.data), (rows, columns)), found.shape)

    return lambda x: compiled(x).data.block_until_ready(), as_scipy


def _taken(call) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _in_c(casadi, function):
    """The function through the C compiler; None without one, or where it takes too long."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="nbhvp-peers-"))
    try:
        generator = casadi.CodeGenerator("product.c")
        generator.add(function)
        generator.generate(f"{folder}/")
        flags = ["-O3", "-march=native", "-fPIC", "-shared"]
        command = [compiler, *flags, "product.c", "-o", "product.so", "-lm"]
        subprocess.run(
            command, cwd=folder, check=True, capture_output=True, timeout=COMPILE_SECONDS
        )
        # The loaded library outlives its file.
        return casadi.external("product", str(folder / "product.so"))
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return None
    finally:
        shutil.rmtree(folder)


def _buffered(function, x, arrays):
    """``product(v)`` through CasADi's buffers, which are bound once: v is copied in, H v out."""
    buffer, evaluate = function.buffer()
    direction, out = np.empty_like(x), np.empty_like(x)
    held = [np.array(array, order="C") for array in (x, direction, *arrays)]
    for k, array in enumerate(held):
        buffer.set_arg(k, memoryview(array.reshape(-1)))
    buffer.set_res(0, memoryview(out))

    def product(v):
        held[1][:] = v
        evaluate()
        return out.copy()

    product.keeps = (buffer, function)  # the buffer holds addresses alone
    return product


PEERS = {
    "JAX jvp": _jax_jvp,
    "JAX linearize": _jax_linearize,
    "PyTorch": _torch,
    "CasADi": _casadi,
    "autograd": _autograd,
}
"""By the label of its column. The first call of a product may compile."""
