"""Objects of Python and arrays of NumPy: bytes from their beginning, as the interfaces of both fix them."""

from types import FunctionType

OBJECT = object.__basicsize__  # what all objects have
TYPE = OBJECT - 8
DATA = OBJECT  # of an array: the address of its elements
NDIM = OBJECT + 8
DIMENSIONS = OBJECT + 16
DTYPE = OBJECT + 40
FLAGS = OBJECT + 48
ITEMS = tuple.__basicsize__
LIST = OBJECT + 8  # of a list: the address of its items
ATTRIBUTES = FunctionType.__dictoffset__  # of a function: its dictionary, or 0
PLAIN = 0x101  # flags of an array: aligned, in C order
HALF = 0xFFFFFFFF  # the bits of an integer of C in a word
