"""Kinds of objects that have stand-ins of their own in a trace, beside those that `standins` knows.

A module that gives a kind of object a stand-in enters it here, so that the walk through what a
function reads need not know the module: functions compiled by Numba, for one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["FunctionStandin", "Standin", "enter", "maker_of"]


class Standin:
    """What stands for an object while a function is traced."""


class FunctionStandin(Standin):
    """What stands for a function, and has it as `function`."""

    function: Callable


_ENTERED: list[tuple[Callable[[Any], bool], Callable]] = []


def enter(applies: Callable[[Any], bool]) -> Callable[[Callable], Callable]:
    """Let the decorated function of `Standins` and an object make its stand-in where `applies`."""

    def register(make):
        _ENTERED.append((applies, make))
        return make

    return register


def maker_of(value) -> Callable | None:
    """What makes the stand-in of an object, if its kind was entered."""
    return next((make for applies, make in _ENTERED if applies(value)), None)
