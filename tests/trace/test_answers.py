"""The register: every answer has a case, and no function is answered and refused."""

import importlib

import numpy as np
import pytest

from nbhvp.trace import answers, dispatch
from nbhvp.trace.record import record
from nbhvp.trace.surroundings.ownership import public_name
from tests import cases
from tests.cases.mpmath import linalg, special
from tests.trace.scipy.test_special import points_of

ELSEWHERE = {
    "numpy.fft": "test_fft runs through all transforms by their names",
    "numpy.inspection": "their results are shapes and texts, which have no derivative: test_arrays",
    "numpy.testing": "assertions are guards: test_standins",
    "scipy.sparse": "matrices as arguments and results: test_sparse",
    "scipy.spatial": "test_spatial runs through all metrics by their names",
    "scipy.matrix_functions": "vectors with signs of LAPACK's: test_matrix_functions",
}
"""Chapters whose cases are no rows, and why."""


@pytest.fixture(scope="module")
def met():
    """The answers that the cases meet by themselves, not inside other answers."""
    found, depth = set(), [0]
    call, method = answers.Answer.__call__, dispatch.ufunc_method

    def noted(answer, *args, **kwargs):
        if depth[0] == 0:
            found.add(answer)
        depth[0] += 1
        try:
            return call(answer, *args, **kwargs)
        finally:
            depth[0] -= 1

    def noted_method(name):
        if depth[0] == 0:
            found.add(answers.ANSWERS[getattr(np.ufunc, name)])
        return method(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers.Answer, "__call__", noted)
        patch.setattr(dispatch, "ufunc_method", noted_method)
        for row in cases.PARAMETERS:
            record(*row.values)
        for _, function, _, domains, chosen in special.CASES:
            x = points_of(domains, chosen)
            record(lambda x, function=function: np.sum(function(*x)), x)
        for row in (*linalg.CASES, *linalg.ALIKE):
            record(row[1], linalg.X)
    return found


def test_every_answer_has_a_case(met):
    needed = {
        answer
        for answer in answers.entries()
        if answer.chapter.removeprefix("nbhvp.trace.") not in ELSEWHERE
    }
    missing = {public_name(answer.functions[0]) for answer in needed - met}
    assert missing == set()


@pytest.mark.parametrize("chapter", ELSEWHERE)
def test_chapters_without_rows_exist(chapter):
    assert importlib.import_module(f"nbhvp.trace.{chapter}")
    assert any(answer.chapter.endswith(chapter) for answer in answers.entries())


def test_no_function_is_answered_and_refused():
    assert not answers.ANSWERS.keys() & answers.REFUSALS.keys()


def test_names_in_the_register_are_those_by_which_functions_are_found():
    """A name that no function has would never be looked up."""
    wrong = []
    for name in filter(lambda name: isinstance(name, str), answers.REFUSALS):
        home, _, last = name.rpartition(".")
        function = getattr(importlib.import_module(home), last, None)
        if function is not None and public_name(function) != name:
            wrong.append(f"{name} is looked up as {public_name(function)}")
    assert wrong == []
