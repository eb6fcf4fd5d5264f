"""Random numbers: refused if they are others at each call, constants if they are seeded within it."""

import copy
import os
import random
import secrets
import uuid

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.stats as st
from numba import njit, vectorize
from numpy.random import PCG64, Generator, SeedSequence, default_rng, rand
from scipy.stats import qmc

import nbhvp

X = np.array([1.0, 2.0])
MANY = 10**9
HELD, LEGACY, PLAIN, SYSTEM = (
    default_rng(0),
    np.random.RandomState(0),
    random.Random(0),
    random.SystemRandom(),
)


def differentiable(number, **options):
    return nbhvp.differentiable(lambda x: number() * np.sum(x), target="interpret", **options)


def shuffled():
    order = np.arange(10_000.0)
    np.random.shuffle(order)
    return order[:10] @ np.arange(10.0)


@njit
def compiled():
    return np.random.rand()


@njit
def caller():
    total = 0.0
    for _ in range(3):
        total += compiled()
    return total


@njit
def of_generator(rng):
    return rng.normal()


@njit
def of_module():
    return random.random()


@vectorize
def each(a):
    return a * np.random.rand()


DRAWS = {
    "default_rng(None)": lambda: default_rng(None).normal(),
    "default_rng(seed=None)": lambda: np.random.default_rng(seed=None).normal(),
    "Generator(PCG64())": lambda: Generator(PCG64()).normal(),
    "MT19937": lambda: np.random.Generator(np.random.MT19937(None)).normal(),
    "RandomState()": lambda: np.random.RandomState().normal(),
    "SeedSequence()": lambda: SeedSequence().generate_state(1)[0],
    "SeedSequence().entropy": lambda: SeedSequence().entropy % MANY,
    "Random()": lambda: random.Random().random(),
    "SystemRandom(0)": lambda: random.SystemRandom(0).random(),
    "os.urandom": lambda: int.from_bytes(os.urandom(4), "big"),
    "secrets": lambda: secrets.randbelow(MANY),
    "secrets.choice": lambda: secrets.choice(range(MANY)),
    "uuid4": lambda: uuid.uuid4().int % MANY,
    "rand": lambda: rand(),
    "ranf": lambda: np.random.ranf(),
    "seed()": lambda: (np.random.seed(), np.random.rand())[1],
    "random.gauss": lambda: random.gauss(0, 1),
    "random.choice": lambda: random.choice(range(MANY)),
    "shuffle": shuffled,
    "sparse.random": lambda: sp.random(2, 2, density=1.0).toarray().sum(),
    "sparse.random_array": lambda: sp.random_array((2, 2), density=1.0).toarray().sum(),
    "sparse.rand": lambda: sp.rand(2, 2, density=1.0).sum(),
    "norm.rvs": lambda: st.norm.rvs(),
    "norm().rvs": lambda: st.norm(0, 1).rvs(),
    "wishart": lambda: st.wishart.rvs(3, 1.0),
    "kde": lambda: st.gaussian_kde(np.arange(5.0)).resample(1)[0, 0],
    "bootstrap": lambda: st.bootstrap((np.arange(9.0),), np.mean, n_resamples=9).standard_error,
    "Sobol": lambda: qmc.Sobol(1).random(1)[0, 0],
    "held": lambda: HELD.normal(),
    "held, legacy": lambda: LEGACY.normal(),
    "held, Python's": lambda: PLAIN.random(),
    "held, the system's": lambda: SYSTEM.random(),
    "held, given to SciPy": lambda: st.norm.rvs(random_state=HELD),
    "held, its parts": lambda: Generator(HELD.bit_generator).normal(),
    "held, its state": lambda: (
        0 * HELD.normal() + HELD.bit_generator.state["state"]["state"] % MANY
    ),
    "held, its children": lambda: HELD.spawn(1)[0].normal(),
    "held, copied": lambda: copy.deepcopy(HELD).normal(),
    "compiled": lambda: compiled(),
    "called by a compiled one": lambda: caller(),
    "given to a compiled one": lambda: of_generator(HELD),
    "compiled, Python's": lambda: of_module(),
    "compiled by vectorize": lambda: each(2.0),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_refused(name):
    f = differentiable(DRAWS[name])
    for call in (f, f.grad):
        with pytest.raises(
            nbhvp.TraceError, match=rf"random numbers.*{__file__}:\d+.*argument.*always"
        ):
            call(X)


@pytest.mark.parametrize("name", [name for name in DRAWS if name != "held, copied"])
def test_draws_are_traced_at_every_call(name):
    f = differentiable(DRAWS[name], trace="always")
    value, gradient = f.value_and_grad(X)
    np.testing.assert_allclose(gradient * 3.0, value, rtol=1e-14)
    assert f(X) != f(X)


class Sampler:
    """It is not copied."""

    def __new__(cls):
        return object.__new__(cls)

    def __init__(self):
        self.rng = default_rng(0)

    def draw(self):
        return self.rng.normal()


def test_draws_by_code_that_is_not_followed():
    sampler = Sampler()
    with pytest.raises(nbhvp.TraceError, match="random numbers.*in code that is not followed"):
        differentiable(sampler.draw)(X)


def in_place():
    rng, order, numbers = default_rng(3), np.arange(5), np.zeros(2)
    rng.shuffle(order)
    rng.standard_normal(out=numbers)
    return order[0] + numbers[1]


def by_state():
    rng = default_rng(1)
    rng.bit_generator.state = default_rng(2).bit_generator.state
    assert isinstance(rng, np.random.Generator)
    return rng.random()


def of_list():
    items = list(range(50))
    random.Random(4).shuffle(items)
    return items[0]


SEEDED = {
    "default_rng": lambda: default_rng(0).normal(),
    "by keyword": lambda: np.random.default_rng(seed=5).random(),
    "PCG64": lambda: Generator(PCG64(1)).random(),
    "of an array": lambda: default_rng(np.array([1, 2, 3])).random(),
    "SeedSequence": lambda: default_rng(SeedSequence(5).spawn(2)[1]).random(),
    "children": lambda: default_rng(7).spawn(2)[1].random(),
    "RandomState": lambda: np.random.RandomState(0).normal(),
    "Random": lambda: random.Random(0).gauss(0, 1),
    "sample": lambda: random.Random(4).sample(range(100), 3)[1],
    "sparse": lambda: sp.random(2, 2, density=1.0, random_state=0).toarray().sum(),
    "sparse, by a generator": lambda: (
        sp.random(2, 2, density=1.0, rng=default_rng(0)).toarray().sum()
    ),
    "norm.rvs": lambda: st.norm(1, 2).rvs(size=3, random_state=0)[1],
    "multivariate": lambda: st.multivariate_normal.rvs([0.0], random_state=3),
    "kde": lambda: st.gaussian_kde(np.arange(5.0)).resample(1, seed=3)[0, 0],
    "Sobol": lambda: qmc.Sobol(1, seed=3).random(4)[2, 0],
    "Halton": lambda: qmc.Halton(1, scramble=False).random(4)[2, 0],
    "in place": in_place,
    "by state": by_state,
    "a list": of_list,
    "copied": lambda: copy.deepcopy(default_rng(0)).normal(),
    "means": lambda: default_rng(0).normal(np.arange(2.0), 1.0)[1],
    "compiled": lambda: of_generator(default_rng(3)),
}


@pytest.mark.parametrize("name", SEEDED)
def test_seeded_numbers_are_constants(name):
    f = differentiable(SEEDED[name])
    assert f(X) == SEEDED[name]() * 3.0
    assert f(2 * X) == SEEDED[name]() * 6.0
    assert f.report().traces == 1


@pytest.mark.parametrize(
    "number",
    [
        lambda: (np.random.seed(0), np.random.rand())[1],
        lambda: (random.seed(0), random.random())[1],
        lambda: (LEGACY.seed(0), LEGACY.rand())[1],
    ],
)
def test_seeds_set_outside(number):
    f = differentiable(number)
    with pytest.warns(UserWarning, match="sets a generator of other code"):
        assert f(X) == number() * 3.0
    assert f(X) == number() * 3.0


def test_a_draw_has_no_derivative():
    f = nbhvp.differentiable(lambda x: default_rng(0).normal(x[0], 1.0))
    with pytest.raises(nbhvp.TraceError, match="mean \\+ width"):
        f(X)


class Problem:
    def __init__(self):
        self.rng, self.legacy, self.plain = default_rng(0), np.random.RandomState(0), PLAIN
        self.more = {"engine": qmc.Sobol(2), "list": [HELD, SYSTEM]}

    def fun(self, x, scale=HELD):
        assert isinstance(self.rng, np.random.Generator) and scale is self.more["list"][0]
        return np.sum(x**2) * len(self.more)


def test_generators_that_are_only_held():
    assert nbhvp.differentiable(Problem().fun, target="interpret")(X) == 10.0


@pytest.mark.compiles
def test_compiled_functions_that_draw_among_what_they_record():
    @njit
    def fun(x):
        total = 0.0
        for i in range(x.size):
            total += x[i] * np.random.rand()
        return total

    with pytest.raises(nbhvp.TraceError, match=r"drawn by.*fun at .*np\.random\.rand\(\)"):
        nbhvp.differentiable(fun)(X)
    f = nbhvp.differentiable(fun, trace="always", target="interpret")
    value, gradient = f.value_and_grad(X)
    np.testing.assert_allclose(value, gradient @ X)
    assert f(X) != f(X)
