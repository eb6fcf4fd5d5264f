"""Modules of kernels: the PTX of a program's kernels as one text, which the driver assembles once.

The PTX of each kernel is kept on disk by itself, since programs share kernels. What it defines, its
entry, functions and tables, is named anew by its place in the module.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nbhvp.targets.cuda.launching.cache import NAME

__all__ = ["entry", "joined"]

DIRECTIVES = re.compile(r"^\.(?:version|target|address_size)\b.*\n", re.MULTILINE)
MEMORY = re.compile(r"^\.extern \.shared .*;\n", re.MULTILINE)
DEFINED = re.compile(
    r"^(?:\.visible \.entry |\.func\s+(?:\(.*?\)\s*)?|\.(?:global|const) .*?\s)([\w$]+)(?=\s*[\[(])",
    re.MULTILINE,
)


def joined(texts: Sequence[str]) -> str:
    """One PTX of several, which have the same directives."""
    head = "".join(DIRECTIVES.findall(texts[0]))
    memory = dict.fromkeys(line for text in texts for line in MEMORY.findall(text))
    bodies = [_named(MEMORY.sub("", DIRECTIVES.sub("", text)), k) for k, text in enumerate(texts)]
    return "\n".join([head, *memory, *bodies])


def _named(text: str, k: int) -> str:
    for name in set(DEFINED.findall(text)):
        text = re.sub(rf"(?<![\w$]){re.escape(name)}(?![\w$])", f"{name}_{k}", text)
    return text


def entry(k: int) -> str:
    """The name of kernel k of a module."""
    return f"{NAME}_{k}"
