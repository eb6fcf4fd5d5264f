"""Colourings of graphs of millions of vertices, in the language of drivers.

Like `drivers`, these functions never run as Python. Arrays are words of 64 bits, given by their addresses.
"""

from nbhvp.targets.lowering.vocabulary import read, write
from nbhvp.targets.lowering.words import driver


@driver
def star(size, starts, neighbours, order, colours, forbidden):
    """Colour the vertices of a symmetric graph, one after the other in some order.

    Neighbours differ in colour, and where u - v - w have the colours a, b, a, b is less than a.
    `colours` is -1 everywhere at first, and so is `forbidden`, which has a place more than vertices.
    """
    for t in range(size):
        u = read(order + 8 * t)
        for j in range(read(starts + 8 * u), read(starts + 8 * u + 8)):
            v = read(neighbours + 8 * j)
            if v != u:
                middle = read(colours + 8 * v)
                if middle >= 0:
                    write(forbidden + 8 * middle, u)
                for k in range(read(starts + 8 * v), read(starts + 8 * v + 8)):
                    colour = read(colours + 8 * read(neighbours + 8 * k))
                    if colour >= 0 and (middle < 0 or colour < middle):
                        write(forbidden + 8 * colour, u)
        free = 0
        while read(forbidden + 8 * free) == u:
            free = free + 1
        write(colours + 8 * u, free)
    return 0


@driver
def columns(size, column_starts, rows, row_starts, members, colours, forbidden):
    """Colour the columns of a matrix so that no row has two entries in columns of one colour."""
    for u in range(size):
        for j in range(read(column_starts + 8 * u), read(column_starts + 8 * u + 8)):
            row = read(rows + 8 * j)
            for k in range(read(row_starts + 8 * row), read(row_starts + 8 * row + 8)):
                colour = read(colours + 8 * read(members + 8 * k))
                if colour >= 0:
                    write(forbidden + 8 * colour, u)
        free = 0
        while read(forbidden + 8 * free) == u:
            free = free + 1
        write(colours + 8 * u, free)
    return 0
