"""Kinds of objects: each function answers to one question at most, so that their order does not matter."""

import builtins
import datetime
import importlib
import json
import logging
import os
import random
import types
import warnings

import numpy as np
import pytest
import scipy.special
import scipy.stats

from nbhvp.trace import kinds

MODULES = [
    builtins, datetime, importlib, json, logging, np, np.linalg, np.random, os, os.path, random,
    scipy.special, scipy.stats, warnings, *map(importlib.import_module, ("io", "time", "secrets")),
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_no_two_questions_are_true_of_one_function(module):
    importlib.import_module("nbhvp.loops.call")  # which asks for compiled functions
    for name, value in vars(module).items():
        if callable(value) and not isinstance(value, type):
            asked = [applies for applies, _ in kinds._QUESTIONS if applies(value)]
            assert len(asked) <= 1, f"{module.__name__}.{name} has {len(asked)} kinds"


class Plain:
    pass


def test_the_nearest_class_counts():
    """Of the classes of an object, and those of the register before those of containers."""
    assert kinds.library_class(type(scipy.stats.norm)).__name__ == "Distribution"
    assert kinds.library_class(dict) is kinds.library_class(Plain) is None
    assert kinds.maker_of({}) is not kinds.maker_of([])
    assert kinds.maker_of(Plain()) is None
    assert kinds.maker_of("text") is kinds.itself
    assert kinds.maker_of(types.SimpleNamespace) is None


def test_an_entry_made_later_counts(monkeypatch):
    """As loops enter their functions, without a change of the tracer."""

    class Ours:
        pass

    monkeypatch.setattr(kinds, "_BY_CLASS", {**kinds._BY_CLASS})
    assert kinds.maker_of(Ours()) is None
    kinds.stands_for(Ours)(kinds.itself)
    assert kinds.maker_of(Ours()) is kinds.itself
