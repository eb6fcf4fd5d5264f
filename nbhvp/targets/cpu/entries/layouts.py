"""The layout in memory of programs, teams of threads and direct calls, which Python and drivers share."""

HEADER = 4  # words: number of steps, patches from v and to out (bytes), most blocks of a step
STEP = 4  # words: kernel, table (bytes from the program's start), extent, block

# A team is words of memory that is never freed, each contended word in a cache line of its own.
LINE = 64
TICKET = 0 * LINE  # the number of the step << 32 | its blocks that nobody has claimed
DONE = 1 * LINE  # blocks of this step that have been run
BUSY = 2 * LINE  # a call has the team
ORDER = 3 * LINE  # kernel, table, extent, block, workers: fixed while a block is claimed or open
SYSTEM = 4 * LINE  # addresses of the functions: acquire a lock, release it, give way
WORKER = 5 * LINE  # from here a line per worker: is it awake, the address of its lock
PATIENCE = 300  # looks at the ticket before a worker sleeps: about as long as a wake-up takes
SPINS = 1000  # looks at DONE before the caller gives way
UNCLAIMED = 0xFFFFFFFF

# The form of a call, as bytes: header, a record per argument, the watches.
ARGUMENTS = 0  # how many
SYSTEM_OF = 8  # the address of the table of functions
NOTHING = 16  # the addresses of None and of True
TRUTH = 24
WATCHES = 32  # where, from the beginning: their number, then one by one
FORM = 40

# A program that is called directly: header, for each input the address of patches or 0, more sections.
ENTERED = 0  # a call has it
IS_LONG = 8  # whether it lets go of the interpreter
STEPS = 16  # the address of its words
COLD = 24  # the number of inputs that come first, in a tuple
OUTPUTS = 32  # where, from the beginning: their number, whether the result is the first, records
GUARDS = 40  # where: their number, then a record of each
INPUTS = 48

# A record of an argument, an output, a guard, or an array that is watched.
KIND = 0
NEXT = 8  # bytes to the next one
CLASS = 16  # the address of the type, or of the object itself (SAME)
DTYPE_OF = 24  # of an object (SAME) the type, if others of it may be equal
BYTES = 32
PLACE = 40  # the address of patches (FRESH), of a buffer, of what is compared with `CLASS`
AXES = 48  # their number, then the extents
SAME, NUMBER, ARRAY = 0, 1, 2  # kinds of arguments
FRESH, COPY, SCALAR = 0, 1, 2  # and of outputs: written where they stay, copied from a buffer
EQUAL, FINITE = 0, 1  # and of guards: the bytes at PLACE, those of one double
EXPONENT = 0x7FF0000000000000

# A watch: KIND, NEXT, an object at CLASS, then what it was.
ITEM, ABSENT, CELL, FUNCTION, INSTANCE, SIZE, ORDER, CONTENT = 0, 1, 2, 3, 4, 5, 6, 7
FIRST, SECOND, THIRD = 24, 32, 40  # in a watch of an array the first is where its record begins

# The table of functions, by word.
GET_ITEM, GET_CODE, GET_DEFAULTS, GET_KEYWORDS, GET_SIZE, GET_KEYS, GET_DICT = 0, 1, 2, 3, 4, 5, 6
TAKE, DROP, NEW_TUPLE, SAVE, RESTORE, COMPARE = 7, 8, 9, 10, 11, 12
NEW_ARRAY, NEW_SCALAR, DIFFER, MOVE = 13, 14, 15, 16
EQUALITY = 2  # what COMPARE asks for
