"""The text of a traced value, which may be printed but not converted back to a number.

`str(x[0])` and `f"{x[0]:.3f}"` show people the value at the traced point. A number that is read from
such a text would be a constant of the trace, which is wrong at another x. So the text is a subclass of
str: inspecting its content, or making a number from it, makes the trace depend on hidden state. A
string that contains such a text is remembered, and functions that read numbers from strings (float,
int, eval, json.loads, ...) test whether their argument is one.
"""

from __future__ import annotations

import re

from nbhvp.trace.places import is_shown
from nbhvp.trace.recording import current

__all__ = ["Text", "note_reading", "plain_text", "text_of"]

_NUMBER = re.compile(r"\d[\d.]*(?:e[+-]?\d+)?")
_GIVING_TEXT = (
    "__add__", "__format__", "__getitem__", "__mod__", "__mul__", "__rmul__", "capitalize", "center",
    "expandtabs", "format", "join", "ljust", "lower", "lstrip", "partition", "removeprefix",
    "removesuffix", "replace", "rjust", "rpartition", "rsplit", "rstrip", "split", "splitlines",
    "strip", "swapcase", "title", "translate", "upper", "zfill",
)  # fmt: skip
"""Methods of strings whose results are text again."""
_ANSWERING = (
    "__contains__", "__eq__", "__ge__", "__gt__", "__hash__", "__iter__", "__le__", "__len__",
    "__lt__", "__ne__", "count", "encode", "endswith", "find", "index", "isalnum", "isalpha",
    "isdecimal", "isdigit", "isnumeric", "rfind", "rindex", "startswith",
)  # fmt: skip
"""Methods of strings that tell what stands in them."""


class Text(str):
    """A text that shows a traced value."""

    __slots__ = ()

    def __str__(self) -> str:
        return self

    def __radd__(self, other: str) -> Text:
        return Text(other + plain_text(self))

    def __float__(self) -> float:
        return float(_read(self))

    def __int__(self) -> int:
        return int(_read(self))

    def __complex__(self) -> complex:
        return complex(_read(self))

    def __reduce__(self):
        return str, (_read(self),)


def plain_text(text: str) -> str:
    """The same text, as any string."""
    return str.__getitem__(text, slice(None))


def _read(text: str) -> str:
    """The text, which is read; code of libraries looks at it in order to show it."""
    if not is_shown():
        current().hide(f"{plain_text(text)!r}, the text of a traced value, which is read back")
    return plain_text(text)


def _giving_text(name: str):
    def method(self, *args):
        return _as_text(getattr(plain_text(self), name)(*args))

    return method


def _as_text(result):
    if isinstance(result, str):
        return Text(result)
    return type(result)(map(_as_text, result)) if isinstance(result, list | tuple) else result


def _answering(name: str):
    def method(self, *args):
        return getattr(_read(self), name)(*args)

    return method


for _name in _GIVING_TEXT:
    setattr(Text, _name, _giving_text(_name))
for _name in _ANSWERING:
    setattr(Text, _name, _answering(_name))


def text_of(text: str) -> Text:
    """The text of a traced value, which the trace remembers."""
    current().texts.append(text)
    return Text(text)


def note_reading(*values) -> None:
    """Note that numbers are read from strings, if these show traced values."""
    texts = current().texts
    if not texts:
        return
    for value in values:
        if isinstance(value, list | tuple):
            note_reading(*value)
        elif isinstance(value, str | bytes):
            string = value.decode("latin-1") if isinstance(value, bytes) else plain_text(value)
            if any(_overlap(string, text) for text in texts):
                _read(string)


def _overlap(string: str, text: str) -> bool:
    """Whether a number of one stands in the other."""
    return any(number in text for number in _NUMBER.findall(string)) or any(
        number in string for number in _NUMBER.findall(text)
    )
