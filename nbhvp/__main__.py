"""The command line.

- `python -m nbhvp demo [--quick] [--out DIR]`: real data by Newton methods.
- `python -m nbhvp check module:function --x0 1,2,3`: whether its derivatives are right; the exit code
  is 1 where they are not. `file.py:function` too; `--x0` is numbers, `zeros(10)`, `ones(2,3)`,
  `random(10)`, or a file of `np.save`.
- `python -m nbhvp cache [--clear]`: the compiled kernels and the plans on disk.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nbhvp")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("demo", help="fit real data by Newton methods, and compare")
    command.add_argument("--quick", action="store_true", help="smaller problems: within 20 s")
    command.add_argument("--out", type=Path, default=Path(), help="folder for nbhvp-demo.png")
    command.set_defaults(run=_demo)
    command = commands.add_parser(
        "cache", help="say where compiled kernels and plans are kept, and how many"
    )
    command.add_argument("--clear", action="store_true", help="remove them")
    command.set_defaults(run=_cache)
    command = commands.add_parser("check", help="check the derivatives of a function at a point")
    command.add_argument("function", type=_function, help="module:function or file.py:function")
    command.add_argument(
        "--x0", type=_point, required=True, help="1,2,3, zeros(10), ones(2,3), random(10), x.npy"
    )
    command.add_argument("--directions", type=int, default=3, help="how many random directions")
    command.add_argument("--seed", type=int, default=0, help="of the directions")
    command.add_argument("--plot", type=Path, help="file for the remainders of Taylor's formula")
    command.set_defaults(run=_check)
    arguments = parser.parse_args()
    arguments.run(arguments)


def _function(text: str) -> Any:
    """The function that "module:function" or "file.py:function" names."""
    source, separator, name = text.rpartition(":")
    if not separator:
        raise argparse.ArgumentTypeError(f"needed module:function or file.py:function, got {text}")
    sys.path.insert(0, str(Path(source).parent if source.endswith(".py") else Path()))
    try:
        module = importlib.import_module(Path(source).stem if source.endswith(".py") else source)
        return functools.reduce(getattr, name.split("."), module)
    except (ImportError, AttributeError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error


def _point(text: str) -> np.ndarray:
    """The point that a text stands for."""
    made = re.fullmatch(r"(zeros|ones|random)\(([\d,\s]+)\)", text)
    try:
        if made:
            shape = tuple(map(int, filter(None, made[2].replace(" ", "").split(","))))
            random = np.random.default_rng(0).normal
            return random(size=shape) if made[1] == "random" else getattr(np, made[1])(shape)
        if text.endswith(".npy"):
            return np.load(text).astype(float)
        return np.array([float(number) for number in text.split(",")])
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error


def _check(arguments: argparse.Namespace) -> None:
    from nbhvp.checking import check
    from nbhvp.errors import TraceError

    options = {"directions": arguments.directions, "seed": arguments.seed}
    try:
        report = check(arguments.function, arguments.x0, **options)
    except TraceError as error:
        sys.exit(str(error))
    print(report)
    if arguments.plot is not None:
        report.plot(arguments.plot)
    sys.exit(not report.passed)


def _demo(arguments: argparse.Namespace) -> None:
    from nbhvp import demo

    demo.run(quick=arguments.quick, folder=arguments.out)


def _cache(arguments: argparse.Namespace) -> None:
    from nbhvp import disk

    if arguments.clear:
        disk.clear()
    kernels, plans = ([path.stat().st_size for path in disk.files(kind)] for kind in disk.KINDS)
    print(
        f"{disk.folder()}: {len(kernels)} kernels, {sum(kernels):,} bytes; "
        f"{len(plans)} plans, {sum(plans):,} bytes"
    )


if __name__ == "__main__":
    main()
