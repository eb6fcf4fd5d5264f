"""The functions that call kernels, on one thread or on a team, in the kernels' own language.

These functions never run as Python: `lower` translates them in the same way as kernels, so a process
that finds all its kernels on the disk needs no compiler. All numbers are 64-bit integers: addresses,
and words of programs (`run` describes their layout).

Threads sleep on a lock until a step has blocks for them. A thread touches only the team's own words
until it has claimed a block, and a step ends when its blocks are done: so a caller never waits for a
thread without a block, and a thread that wakes late finds no work and touches no memory of the step.
"""

from nbhvp.targets.cpu.entries.layouts import (
    BUSY,
    DONE,
    HEADER,
    LINE,
    ORDER,
    PATIENCE,
    SPINS,
    STEP,
    SYSTEM,
    TICKET,
    UNCLAIMED,
    WORKER,
)
from nbhvp.targets.lowering.vocabulary import add, invoke, load, read, replace, store, write
from nbhvp.targets.lowering.words import driver

# --- on one thread --------------------------------------------------------------------------------


@driver
def place(program, patches, address):
    """Write the address of an array into the tables.

    `patches` is a number of them, then for each the position of a word and an offset in bytes.
    """
    for k in range(read(patches)):
        at = patches + 16 * k
        write(program + 8 * read(at + 8), address + read(at + 16))
    return 0


@driver
def patch(program, v, out):
    """Write the addresses of v and of out into the tables."""
    place(program, program + read(program + 8), v)
    place(program, program + read(program + 16), out)
    return 0


@driver
def execute(program):
    for step in range(read(program)):
        at = program + 8 * (HEADER + STEP * step)
        table, extent, block = program + read(at + 8), read(at + 16), read(at + 24)
        lo = 0
        while lo < extent:
            invoke(read(at), table, lo, min(lo + block, extent))
            lo = lo + block
    return 0


@driver
def turn(table):
    """Move the addresses that move to and fro."""
    count, turned = read(table + 24), table + read(table + 32)
    for k in range(count):
        at, step = table + read(turned + 16 * k), read(turned + 16 * k + 8)
        write(at, read(at) + step)
        write(turned + 16 * k + 8, -step)
    return 0


@driver
def repeat(table):
    """Run a program again and again; after each time some addresses move on, and some move to and fro.

    The table is how often, how many addresses move on and where these stand in it, the same of those
    that move to and fro; then the program, then for each address its place and how far it moves, in
    bytes.
    """
    times, count, moved = read(table), read(table + 8), table + read(table + 16)
    for _ in range(times):
        execute(table + 40)
        for k in range(count):
            at = table + read(moved + 16 * k)
            write(at, read(at) + read(moved + 16 * k + 8))
        turn(table)
    if times % 2 == 1:
        turn(table)
    for k in range(count):
        at = table + read(moved + 16 * k)
        write(at, read(at) - times * read(moved + 16 * k + 8))
    return 0


@driver
def strips(table, lo, hi):
    """Run some kernels strip after strip of rows, and then one over the elements of each strip.

    The table is the strips of a block, the rows of a strip and of all, how many rows before and after
    its own a strip has, the elements of a row; the number of kernels, of pointers that move, and of the
    words that each block has of its own; where in the memory of a block the strip begins, how much
    memory a block has, and where that of the first block is. These words follow: for each kernel its
    address and where its table lies, in bytes, and the tables. Then for each pointer that moves: where
    it stands, where its array begins in a strip, and the bytes of a row.
    """
    height, rows, length = read(table + 8), read(table + 16), read(table + 40)
    count, moved, words = read(table + 48), read(table + 56), read(table + 64)
    own = read(table + 88) + lo // read(table) * read(table + 80)
    memory, moves = own + read(table + 72), table + 96 + 8 * words
    for k in range(words):
        write(own + 8 * k, read(table + 96 + 8 * k))
    for strip in range(lo, hi):
        first, last = strip * height, min(strip * height + height, rows)
        begin, end = max(first - read(table + 24), 0), min(last + read(table + 32), rows)
        for k in range(moved):
            at = moves + 24 * k
            write(own + read(at), memory + read(at + 8) - begin * read(at + 16))
        for k in range(count - 1):
            invoke(read(own + 16 * k), own + read(own + 16 * k + 8), begin, end)
        at = own + 16 * (count - 1)
        invoke(read(at), own + read(at + 8), first * length, last * length)
    return 0


@driver
def run(program, v, out):
    patch(program, v, out)
    execute(program)
    return 0


@driver
def address(array):
    return array


# --- on several threads ---------------------------------------------------------------------------


@driver
def claim(team, worker):
    """How many blocks were unclaimed, of which the last is now the caller's; 0 for none."""
    while True:
        ticket = load(team + TICKET)
        if ticket & UNCLAIMED == 0 or worker >= load(team + ORDER + 32):
            return 0
        # A ticket is never used twice: if it still stands, the order was read whole.
        if replace(team + TICKET, ticket, ticket - 1):
            return ticket & UNCLAIMED


@driver
def work(team, worker):
    """Run blocks of the step on offer until none is left. The number run."""
    ran = 0
    while True:
        unclaimed = claim(team, worker)
        if unclaimed == 0:
            return ran
        if unclaimed > 1:
            wake_one(team)
        extent, block = load(team + ORDER + 16), load(team + ORDER + 24)
        lo = (unclaimed - 1) * block
        invoke(load(team + ORDER), load(team + ORDER + 8), lo, min(lo + block, extent))
        add(team + DONE, 1)
        ran = ran + 1


@driver
def wake_one(team):
    """Wake a sleeping worker. Whoever finds work wakes one more, so all wake in log time."""
    for worker in range(load(team + ORDER + 32)):
        me = team + WORKER + worker * LINE
        if load(me) == 0 and replace(me, 0, 1):
            invoke(load(team + SYSTEM + 8), load(me + 8))
            return 0
    return 0


@driver
def serve(team, worker):
    """The life of a worker. It never returns and never needs the interpreter."""
    me = team + WORKER + worker * LINE
    while True:
        idle = 0
        while idle < PATIENCE:
            idle = 0 if work(team, worker) else idle + 1
            invoke(load(team + SYSTEM + 16))
        store(me, 0)
        # A step offered before the line above may have taken this worker for awake.
        if load(team + TICKET) & UNCLAIMED != 0 and replace(me, 0, 1):
            continue
        invoke(load(team + SYSTEM), load(me + 8), 1)


@driver
def share(team, workers, kernel, table, extent, block):
    """Run one step together with the workers."""
    blocks = (extent + block - 1) // block
    store(team + ORDER, kernel)
    store(team + ORDER + 8, table)
    store(team + ORDER + 16, extent)
    store(team + ORDER + 24, block)
    store(team + ORDER + 32, workers)
    store(team + DONE, 0)
    store(team + TICKET, ((load(team + TICKET) >> 32) + 1) << 32 | blocks)
    work(team, -1)
    spins = 0
    while load(team + DONE) < blocks:
        spins = spins + 1
        if spins > SPINS:
            invoke(load(team + SYSTEM + 16))
    return 0


@driver
def run_shared(program, team, workers, v, out):
    """`run` together with the workers, unless another call has them."""
    # Patch only one's own program: the team may be busy with another.
    patch(program, v, out)
    if not replace(team + BUSY, 0, 1):
        execute(program)
        return 0
    for step in range(read(program)):
        at = program + 8 * (HEADER + STEP * step)
        table, extent, block = program + read(at + 8), read(at + 16), read(at + 24)
        if extent > block:
            share(team, workers, read(at), table, extent, block)
        elif extent > 0:
            invoke(read(at), table, 0, extent)
    store(team + BUSY, 0)
    return 0
