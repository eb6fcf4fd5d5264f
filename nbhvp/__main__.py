"""The command line.

- `python -m nbhvp demo [--quick] [--out DIR]`: real data by Newton methods.
- `python -m nbhvp cache [--clear]`: the compiled kernels on disk.
"""

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nbhvp")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("demo", help="fit real data by Newton methods, and compare")
    command.add_argument("--quick", action="store_true", help="smaller problems: within 20 s")
    command.add_argument("--out", type=Path, default=Path(), help="folder for nbhvp-demo.png")
    command.set_defaults(run=_demo)
    command = commands.add_parser("cache", help="say where compiled kernels are kept, and how many")
    command.add_argument("--clear", action="store_true", help="remove them")
    command.set_defaults(run=_cache)
    arguments = parser.parse_args()
    arguments.run(arguments)


def _demo(arguments: argparse.Namespace) -> None:
    from nbhvp import demo

    demo.run(quick=arguments.quick, folder=arguments.out)


def _cache(arguments: argparse.Namespace) -> None:
    from nbhvp.compile import cache

    if arguments.clear:
        cache.clear()
    files = cache.files()
    size = sum(path.stat().st_size for path in files)
    print(f"{cache.folder()}: {len(files)} kernels, {size:,} bytes")


if __name__ == "__main__":
    main()
