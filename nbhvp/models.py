"""Curvatures of models: the matrices of Gauss and Newton, and those of Fisher, as operators.

A model z(x) with Jacobian J, and a loss of its outputs, have the Gauss-Newton matrix

    G = J^T (d^2 loss / dz^2) J:        the Hessian of loss(z(x)), without the curvature of the model,

positive semidefinite for a convex loss (Schraudolph 2002). Where the loss is the negative log-likelihood
of labels with natural parameters z, it does not depend on the labels, and is the Fisher matrix of the
model (Martens 2020). Each is one `Product`, with one program per point and one per direction: loss and
model are traced together, with a mark at z.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.special as special
from numpy.typing import ArrayLike

from nbhvp.composition import following
from nbhvp.function import Function, Vector, differentiable
from nbhvp.graph import primitives as p
from nbhvp.graph.linear_map import Product, loss_of, squared_scores
from nbhvp.graph.linear_map import gauss_newton as of_squares
from nbhvp.operators.linear import HessianOperator
from nbhvp.runtime.calls.inputs import as_vector
from nbhvp.trace.arrays import Traced, traced
from nbhvp.trace.recording import source_of

__all__ = ["Fisher", "GaussNewton", "fisher", "gauss_newton"]


def gauss_newton(model: Callable, loss: Callable | None = None) -> GaussNewton:
    """The Gauss-Newton matrix of a loss of a model, J^T (d^2 loss) J, as a function of the point [GN]_.

    Parameters
    ----------
    model : callable
        ``model(x, *args, **kwargs)``, a function or a `Function`, with an array as result.
    loss : callable, optional
        ``loss(z, *loss_args)`` of the model's result z: a scalar, or an array, of which the sum counts.
        Left out, it is half the sum of squares, and the matrix J^T J.

    Returns
    -------
    GaussNewton
        ``G(x, *args, loss_args=(), **kwargs)`` gives a HessianOperator, whose value and gradient are those
        of the loss.

    References
    ----------
    .. [GN] N. N. Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent",
       Neural Computation 14 (2002).

    Examples
    --------
    >>> import numpy as np
    >>> import nbhvp
    >>> A = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> G = nbhvp.gauss_newton(lambda x: A @ x, lambda z, y: np.sum((z - y) ** 4) / 12)
    >>> G(np.zeros(2), loss_args=(np.ones(3),)).toarray()
    array([[35., 44.],
           [44., 56.]])
    """
    return GaussNewton(_function(model), _checked(loss))


def fisher(
    model: Callable,
    distribution: str,
    kind: str = "exact",
    rng: np.random.Generator | int | None = None,
    samples: int = 1,
) -> GaussNewton | Fisher:
    """The Fisher matrix of a model that gives the natural parameters of labels [NG]_.

    Parameters
    ----------
    model : callable
        ``model(x, *args, **kwargs)``, a function or a `Function`. Its result z has one entry, or row, for
        each observation.
    distribution : str
        Of the labels: "categorical", with logits along the last axis of z; "bernoulli", with logits z;
        "gaussian", with means z and variance 1; "poisson", with logarithms of rates z.
    kind : str
        "exact" is the expectation over labels of the model's own distribution,
        J^T E[e e^T] J with the scores e = d log p(y | z) / dz. "empirical" has given labels y in the place
        of the expectation, with one gradient g for each observation, the sum of g g^T: no Fisher matrix, and
        no approximation of the Hessian in general [EF]_. "monte-carlo" has labels drawn from the model.
    rng : numpy.random.Generator or int, optional
        What draws the labels. Each operator has labels of its own.
    samples : int
        How many labels are drawn for each observation.

    Returns
    -------
    GaussNewton or Fisher
        ``F(x, *args, **kwargs)`` gives a HessianOperator, and ``F(x, *args, labels=y, **kwargs)`` for the
        empirical kind: the sum over observations, so divide it by their number for the mean. An observation is
        one place along all axes of z but the last for "categorical", and along the first axis for the others.
        The operator's ``value`` is that of the log-partition function for "exact", else z.

    References
    ----------
    .. [NG] J. Martens, "New insights and perspectives on the natural gradient method", JMLR 21 (2020).
    .. [EF] F. Kunstner, P. Hennig, L. Balles, "Limitations of the empirical Fisher approximation for natural
       gradient descent", NeurIPS (2019).

    Examples
    --------
    >>> import numpy as np
    >>> import nbhvp
    >>> A = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> F = nbhvp.fisher(lambda x: A @ x, "bernoulli")
    >>> F(np.zeros(2)).toarray()                    # A.T @ A / 4
    array([[ 8.75, 11.  ],
           [11.  , 14.  ]])
    """
    law = _LAWS.get(distribution)
    if law is None:
        raise ValueError(f"distribution must be one of {', '.join(_LAWS)}, got {distribution!r}")
    if kind not in ("exact", "empirical", "monte-carlo"):
        raise ValueError(f"kind must be 'exact', 'empirical' or 'monte-carlo', got {kind!r}")
    if kind == "exact":
        return GaussNewton(_function(model), law.partition)
    drawn = None if kind == "empirical" else np.random.default_rng(rng)
    return Fisher(_function(model), distribution, drawn, samples)


def _function(model: Callable) -> Function:
    return model if isinstance(model, Function) else differentiable(model)


def _checked(loss: Callable | None) -> Callable | None:
    if loss is not None and not callable(loss):
        raise TypeError(f"loss must be a function of the model's result, got {type(loss).__name__}")
    return loss.__wrapped__ if isinstance(loss, Function) else loss


class GaussNewton:
    """The Gauss-Newton matrix as a function of the point. Made by `gauss_newton` and `fisher`."""

    def __init__(self, model: Function, loss: Callable | None):
        self.model, self.loss = model, loss
        self._function: Function = model
        self._product: Product = of_squares
        if loss is not None:
            options = replace(model.options, unravel=None)
            self._function, self._product = Function(_composed(model, loss), options), loss_of

    def __call__(
        self, x: Vector, /, *args: Any, loss_args: tuple = (), **kwargs: Any
    ) -> HessianOperator:
        """The operator at x, which keeps the arguments as that of `Function.hessian` does."""
        if self.loss is None and loss_args:
            raise TypeError("loss_args are those of a loss, and no loss was given")
        given = (args, kwargs) if self.loss is None else ((args, kwargs, loss_args), {})
        function, x = self._function, as_vector(x, self.model.unravel)
        point = function._memory.at(function._tracer, self._product, x, *given)
        origin = functools.partial(self, point.x, *args, loss_args=loss_args, **kwargs)
        return HessianOperator(point, self._product, origin, self.model.unravel)

    def __reduce__(self) -> tuple:
        return GaussNewton, (self.model, self.loss)

    def __repr__(self) -> str:
        return f"<nbhvp.GaussNewton {source_of(self.model.__wrapped__)}>"


def _composed(model: Function, loss: Callable) -> Callable:
    """A loss of a model, as one function of x, with a mark at the model's result."""

    @following(model.__wrapped__)
    def composed(x: Any, args: tuple, kwargs: dict, loss_args: tuple) -> Any:
        return np.sum(loss(_marked(model(x, *args, **kwargs)), *loss_args))

    return composed


def _marked(z: Traced) -> Traced:
    return traced(p.variable(z.node, level=0), z.value)


class Fisher:
    """The Fisher matrix of labels that are given or drawn. Made by `fisher`."""

    def __init__(
        self, model: Function, distribution: str, rng: np.random.Generator | None, samples: int
    ):
        self.model, self.distribution = model, distribution
        self._rng, self._samples = rng, samples

    def __call__(
        self, x: Vector, /, *args: Any, labels: ArrayLike | None = None, **kwargs: Any
    ) -> HessianOperator:
        """The operator at x, which keeps the arguments and the labels."""
        law, z = _LAWS[self.distribution], np.asarray(self.model(x, *args, **kwargs))
        if self._rng is None:
            drawn = [_labels(labels, z, self.distribution)]
        elif labels is not None:
            raise TypeError(
                "labels are drawn from the model: leave them out, or take kind='empirical'"
            )
        else:
            drawn = [law.draw(self._rng, z) for _ in range(self._samples)]
        return self._with_scores(np.stack(drawn) - law.mean(z), x, *args, **kwargs)

    def drawing(self, rng: np.random.Generator) -> Fisher:
        """The same with another generator of labels."""
        return Fisher(self.model, self.distribution, rng, self._samples)

    @property
    def rng(self) -> np.random.Generator | None:
        """The generator of labels, if they are drawn."""
        return self._rng

    def _with_scores(self, e: np.ndarray, x: Vector, /, *args: Any, **kwargs: Any):
        product = squared_scores(len(e), self.distribution == "categorical")
        function = self.model
        point = function._memory.weighted(function._tracer, product, x, e, args, kwargs)
        origin = functools.partial(self._with_scores, e, point.x, *args, **kwargs)
        return HessianOperator(point, product, origin, function.unravel)

    def __repr__(self) -> str:
        return f"<nbhvp.Fisher {self.distribution} of {source_of(self.model.__wrapped__)}>"


def _labels(labels: ArrayLike | None, z: np.ndarray, distribution: str) -> np.ndarray:
    """Labels like z; those of categories one-hot, or as probabilities."""
    if labels is None:
        raise TypeError("the empirical kind needs labels: F(x, *args, labels=y)")
    y = np.asarray(labels)
    if y.shape == z.shape:
        return y
    if distribution == "categorical" and y.shape == z.shape[:-1] and y.dtype.kind in "iu":
        if y.size and not (y.min() >= 0 and y.max() < z.shape[-1]):
            raise ValueError(
                f"labels must be from 0 to {z.shape[-1] - 1}, got {y.min()} to {y.max()}"
            )
        return np.eye(z.shape[-1])[y]
    wanted = f"{z.shape}"
    if distribution == "categorical":
        wanted += f", or integers of shape {z.shape[:-1]}"
    raise ValueError(f"labels must have shape {wanted}, got {y.dtype} of shape {y.shape}")


def _draw_category(rng: np.random.Generator, z: np.ndarray) -> np.ndarray:
    return np.eye(z.shape[-1])[np.argmax(z + rng.gumbel(size=z.shape), axis=-1)]


@dataclass(frozen=True)
class _Law:
    """A distribution of labels by its natural parameter z."""

    partition: Callable | None
    """The logarithm of the factor that norms it, whose second derivative is the variance."""
    mean: Callable
    draw: Callable


_LAWS = {
    "categorical": _Law(
        functools.partial(special.logsumexp, axis=-1),
        functools.partial(special.softmax, axis=-1),
        _draw_category,
    ),
    "bernoulli": _Law(
        functools.partial(np.logaddexp, 0.0),
        special.expit,
        lambda rng, z: rng.random(z.shape) < special.expit(z),
    ),
    "gaussian": _Law(None, lambda z: z, lambda rng, z: rng.normal(z)),
    "poisson": _Law(np.exp, np.exp, lambda rng, z: rng.poisson(np.exp(z))),
}
