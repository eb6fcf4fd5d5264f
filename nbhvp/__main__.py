"""The command line: `python -m nbhvp demo [--quick] [--out DIR]`."""

import argparse
from pathlib import Path

from nbhvp import demo


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nbhvp")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("demo", help="fit real data by Newton methods, and compare")
    command.add_argument("--quick", action="store_true", help="smaller problems: within 20 s")
    command.add_argument("--out", type=Path, default=Path(), help="folder for nbhvp-demo.png")
    arguments = parser.parse_args()
    demo.run(quick=arguments.quick, folder=arguments.out)


if __name__ == "__main__":
    main()
