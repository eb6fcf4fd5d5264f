"""Terms of the entries of a sparse matrix, sorted in linear time, in the language of drivers.

Like `drivers`, these functions never run as Python. Arrays are words of 64 bits, given by their addresses.
A matrix is C_out D C_in: each entry (a, b) of D is added to the entries (r, c) for all r in column a of
C_out and c in row b of C_in, times a factor. `classes` tells which of a few factors that is.
"""

from nbhvp.targets.lowering.vocabulary import read, write
from nbhvp.targets.lowering.words import driver

HALF = 32
"""Bits of a row or a column, and of a place, in one word."""
PLACE = 0xFFFFFFFF


@driver
def by_columns(table, ends, found):
    """Sort terms by their columns c: each is a word of its row r, and of its place among values.

    The table is the rows of D, its colours, the values of a class, the factors in C_in; then addresses:
    of D where rows start, and columns; of their colours; of C_out, by columns, where these start, rows,
    and numbers of factors; the same of C_in, by rows; and of the classes of pairs of factors. `ends`
    are where the next term of each column goes. If `found` is no array but 0, terms are counted alone.
    """
    count, values, kinds = read(table + 8), read(table + 16), read(table + 24)
    starts, columns, colours = read(table + 32), read(table + 40), read(table + 48)
    out_starts, rows, out_kinds = read(table + 56), read(table + 64), read(table + 72)
    in_starts, others, in_kinds = read(table + 80), read(table + 88), read(table + 96)
    classes = read(table + 104)
    for a in range(read(table)):
        first, last = read(out_starts + 8 * a), read(out_starts + 8 * a + 8)
        for e in range(read(starts + 8 * a), read(starts + 8 * a + 8)):
            b = read(columns + 8 * e)
            place = a * count + read(colours + 8 * b)
            for j in range(read(in_starts + 8 * b), read(in_starts + 8 * b + 8)):
                end, kind = ends + 8 * read(others + 8 * j), read(in_kinds + 8 * j)
                at = read(end)
                if found != 0:
                    for i in range(first, last):
                        which = read(classes + 8 * (read(out_kinds + 8 * i) * kinds + kind))
                        term = read(rows + 8 * i) << HALF | place + which * values
                        write(found + 8 * (at + i - first), term)
                write(end, at + last - first)
    return 0


@driver
def by_rows(size, starts, terms, ends, found):
    """Sort terms, which lie by their columns, by rows: each is a word of its column and its place."""
    for c in range(size):
        for t in range(read(starts + 8 * c), read(starts + 8 * c + 8)):
            term = read(terms + 8 * t)
            end = ends + 8 * (term >> HALF)
            at = read(end)
            if found != 0:
                write(found + 8 * at, c << HALF | term & PLACE)
            write(end, at + 1)
    return 0
