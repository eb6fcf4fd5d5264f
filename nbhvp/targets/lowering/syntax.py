"""Tests of the text and of the syntax tree of a kernel or of a function."""

import ast
import re
from collections import Counter

from nbhvp.targets.lowering import words


def assigned_often(tree: ast.FunctionDef) -> set[str]:
    """Names that more than one statement assigns; a name of loops and of no other statement is not."""
    counts = dict.fromkeys((a.arg for a in tree.args.args), 1)
    named = set()
    pending = list(tree.body)
    while pending:
        statement = pending.pop()
        targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
        for target in targets:
            for one in getattr(target, "elts", [target]):
                if isinstance(one, ast.Name) and isinstance(statement, ast.For):
                    named.add(one.id)
                elif isinstance(one, ast.Name):
                    more = 1 + isinstance(statement, ast.AugAssign)
                    counts[one.id] = counts.get(one.id, 0) + more
        pending += [*getattr(statement, "body", ()), *getattr(statement, "orelse", ())]
    return {name for name, count in counts.items() if count > 1 or name in named}


OFTEN = 8
"""Calls of one function in code without loops from which it is called: written out so often, its
instructions take LLVM longer than all else, and no loop is there to be vectorised."""


def called_often(source: ast.FunctionDef) -> frozenset[str]:
    """The functions that a kernel calls often, if all its loops run over one row."""
    nodes = list(ast.walk(source))
    used = {one.id for one in nodes if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
    if any(isinstance(one, ast.For) and ast.unparse(one.target) in used for one in nodes):
        return frozenset()
    calls = (one.func for one in nodes if isinstance(one, ast.Call))
    counts = Counter(func.id for func in calls if isinstance(func, ast.Name))
    return frozenset(name for name, count in counts.items() if count >= OFTEN)


def is_cheap(node: ast.expr) -> bool:
    """Whether an expression may be computed where its value is not wanted."""
    if isinstance(node, ast.Name | ast.Constant):
        return True
    return not any(isinstance(one, ast.Call | ast.Subscript | ast.Div) for one in ast.walk(node))


def is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def is_short(tree: ast.FunctionDef) -> bool:
    """Whether a function is one expression."""
    return len([one for one in tree.body if not is_text(one)]) == 1


_RARE = re.compile(rf"(?<![\w.])({'|'.join(sorted(words.RARE))})\(")


def has_rare_cases(text: str) -> bool:
    """Whether the text of a kernel calls a function that has some."""
    return _RARE.search(text) is not None


def written_slots(source: ast.FunctionDef) -> list[int]:
    """The slots of all pointers that a kernel declares as written, which it does at its top."""
    found = set()
    for one in source.body:
        match one:
            case ast.Assign(value=ast.Call(func=ast.Name("writes"), args=[_, k, _])):
                found.add(ast.literal_eval(k))
    return sorted(found)
