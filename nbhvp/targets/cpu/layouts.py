"""The layout in memory of programs and teams of threads, which `run` writes and `drivers` reads."""

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
