"""Calls of programs straight from the interpreter, in the kernels' own language.

`evaluate`, `accept` and `same` are functions that Python calls. They look at the arguments of a call, at what a
trace has read elsewhere, and at guards, and give None whenever anything is not as it was: the general
way in `nbhvp.runtime` then finds out what. So they never raise but for want of memory, and a small call
passes no other Python than the method that the user calls. `forms` lays out the words that they read.

Invariants: nothing is written but new results and the words of the program, which one call has at a
time; a call that finds them in use gives None as well.
"""

from nbhvp.targets.cpu.entries.drivers import execute, place
from nbhvp.targets.cpu.entries.layouts import (
    ABSENT,
    ARGUMENTS,
    AXES,
    BYTES,
    CELL,
    CLASS,
    COLD,
    COMPARE,
    COPY,
    DIFFER,
    DROP,
    DTYPE_OF,
    ENTERED,
    EQUALITY,
    EXPONENT,
    FINITE,
    FIRST,
    FORM,
    FRESH,
    FUNCTION,
    GET_CODE,
    GET_DEFAULTS,
    GET_DICT,
    GET_ITEM,
    GET_KEYS,
    GET_KEYWORDS,
    GET_SIZE,
    GUARDS,
    INPUTS,
    INSTANCE,
    IS_LONG,
    ITEM,
    KIND,
    MOVE,
    NEW_ARRAY,
    NEW_SCALAR,
    NEW_TUPLE,
    NEXT,
    NOTHING,
    NUMBER,
    ORDER,
    OUTPUTS,
    PLACE,
    RESTORE,
    SAME,
    SAVE,
    SCALAR,
    SECOND,
    SIZE,
    STEPS,
    SYSTEM_OF,
    TAKE,
    THIRD,
    TRUTH,
    WATCHES,
)
from nbhvp.targets.lowering.objects import (
    ATTRIBUTES,
    DATA,
    DIMENSIONS,
    DTYPE,
    FLAGS,
    HALF,
    ITEMS,
    LIST,
    NDIM,
    OBJECT,
    PLAIN,
    TYPE,
)
from nbhvp.targets.lowering.vocabulary import ask, invoke, read, replace, store, write
from nbhvp.targets.lowering.words import driver


@driver
def system(form, which):
    """The address of a function of Python's, NumPy's or C's."""
    return read(read(form + SYSTEM_OF) + 8 * which)


@driver
def differ(form, a, b, size):
    """Whether the bytes at two addresses differ."""
    return ask(system(form, DIFFER), a, b, size) & HALF


# --- arguments ------------------------------------------------------------------------------------


@driver
def elements(record, x):
    """Where the numbers of an argument lie."""
    return x + OBJECT if read(record + KIND) == NUMBER else read(x + DATA)


@driver
def fits_array(record, x):
    """Whether an object is an array in C order with the dtype and the shape of a record."""
    if read(x + TYPE) != read(record + CLASS) or read(x + DTYPE) != read(record + DTYPE_OF):
        return 0
    axes = read(record + AXES)
    if read(x + FLAGS) & PLAIN != PLAIN or read(x + NDIM) & HALF != axes:
        return 0
    for k in range(axes):
        if read(read(x + DIMENSIONS) + 8 * k) != read(record + AXES + 8 + 8 * k):
            return 0
    return 1


@driver
def fit(form, arguments):
    """Whether arguments are the objects, or have the types, dtypes and shapes, of a form."""
    record = form + FORM
    for k in range(read(form + ARGUMENTS)):
        x, kind = read(arguments + 8 * k), read(record + KIND)
        if kind == SAME and x != read(record + CLASS):
            if read(x + TYPE) != read(record + DTYPE_OF):
                return 0
            if ask(system(form, COMPARE), x, read(record + CLASS), EQUALITY) & HALF != 1:
                return 0
        if kind == NUMBER and read(x + TYPE) != read(record + CLASS):
            return 0
        if kind > NUMBER and fits_array(record, x) == 0:
            return 0
        record = record + read(record + NEXT)
    return 1


@driver
def equal(form, arguments, kept):
    """Whether arguments that fit have the bits of the arrays that were kept."""
    record, there = form + FORM, kept + ITEMS
    for k in range(read(form + ARGUMENTS)):
        if read(record + KIND) != SAME:
            here, size = elements(record, read(arguments + 8 * k)), read(record + BYTES)
            if differ(form, here, read(read(there) + DATA), size) != 0:
                return 0
            there = there + 8
        record = record + read(record + NEXT)
    return 1


# --- what a trace has read elsewhere --------------------------------------------------------------


@driver
def same_function(form, watch, function):
    """Whether a function has its code and defaults, and no attributes."""
    attributes = read(function + ATTRIBUTES)
    if attributes != 0 and ask(system(form, GET_SIZE), attributes) != 0:
        return 0
    if ask(system(form, GET_CODE), function) != read(watch + FIRST):
        return 0
    if ask(system(form, GET_DEFAULTS), function) != read(watch + SECOND):
        return 0
    return equals(ask(system(form, GET_KEYWORDS), function), read(watch + THIRD))


@driver
def same_instance(form, watch, value):
    """Whether an object has its class, and the dictionary of its attributes."""
    if read(value + TYPE) != read(watch + FIRST):
        return 0
    found = ask(system(form, GET_DICT), value, 0)
    dropped(form, found)
    return equals(found, read(watch + SECOND))


@driver
def same_order(form, watch, mapping):
    """Whether a dictionary has its keys, which are as many as before, in their order."""
    keys, found = ask(system(form, GET_KEYS), mapping), 1
    if keys == 0:
        return 0
    for k in range((read(watch + NEXT) - FIRST) // 8):
        if read(read(keys + LIST) + 8 * k) != read(watch + FIRST + 8 * k):
            found = 0
    dropped(form, keys)
    return found


@driver
def same_content(form, record, array):
    """Whether an array has its shape, dtype and bytes."""
    if fits_array(record, array) == 0:
        return 0
    content, size = read(record + PLACE), read(record + BYTES)
    return equals(differ(form, read(array + DATA), content, size), 0)


@driver
def equals(a, b):
    return 1 if a == b else 0


@driver
def dropped(form, result):
    if result != 0:
        invoke(system(form, DROP), result)
    return 0


@driver
def holds(form, watch):
    """Whether an object is what it was."""
    kind, value, seen = read(watch + KIND), read(watch + CLASS), read(watch + FIRST)
    if kind == ITEM:
        return equals(ask(system(form, GET_ITEM), value, read(watch + SECOND)), seen)
    if kind == ABSENT:
        return equals(ask(system(form, GET_ITEM), value, read(watch + SECOND)), 0)
    if kind == CELL:
        return equals(read(value + OBJECT), seen)
    if kind == FUNCTION:
        return same_function(form, watch, value)
    if kind == INSTANCE:
        return same_instance(form, watch, value)
    if kind == SIZE:
        return equals(ask(system(form, GET_SIZE), value), seen)
    if kind == ORDER:
        return same_order(form, watch, value)
    return same_content(form, watch + FIRST, value)


@driver
def hold(form):
    """Whether everything that is watched is as it was."""
    watch = form + read(form + WATCHES) + 8
    for _ in range(read(watch - 8)):
        if holds(form, watch) == 0:
            return 0
        watch = watch + read(watch + NEXT)
    return 1


# --- results --------------------------------------------------------------------------------------


@driver
def told(form, which):
    """One of Python's own objects, for the caller to keep."""
    invoke(system(form, TAKE), read(form + which))
    return read(form + which)


@driver
def put(result, is_alone, k, one):
    """The only result, or a tuple of several with one more."""
    if is_alone:
        return one
    write(result + ITEMS + 8 * k, one)
    return result


@driver
def got(result, is_alone, k):
    return result if is_alone else read(result + ITEMS + 8 * k)


@driver
def allocated(form, program):
    """New arrays for the outputs, in a tuple if there are several; 0 where memory is out."""
    outputs, result = program + read(program + OUTPUTS), 0
    count, is_alone, record = read(outputs), read(outputs + 8), outputs + 16
    if is_alone == 0:
        result = ask(system(form, NEW_TUPLE), count)
        if result == 0:
            return 0
    for k in range(count):
        if read(record + KIND) != SCALAR:
            dtype, axes = read(record + DTYPE_OF), read(record + AXES)
            invoke(system(form, TAKE), dtype)
            one = ask(system(form, NEW_ARRAY), axes, record + AXES + 8, dtype, 0)
            if one == 0:
                return dropped(form, result)
            if read(record + KIND) == FRESH:
                place(read(program + STEPS), read(record + PLACE), read(one + DATA))
            result = put(result, is_alone, k, one)
        record = record + read(record + NEXT)
    return result


@driver
def filled(form, program, result):
    """The results, where small ones come from the buffers of the program."""
    outputs = program + read(program + OUTPUTS)
    count, is_alone, record = read(outputs), read(outputs + 8), outputs + 16
    for k in range(count):
        if read(record + KIND) == COPY:
            to = read(got(result, is_alone, k) + DATA)
            invoke(system(form, MOVE), to, read(record + PLACE), read(record + BYTES))
        if read(record + KIND) == SCALAR:
            one = ask(system(form, NEW_SCALAR), read(record + PLACE), read(record + DTYPE_OF), 0)
            if one == 0:
                return dropped(form, result)
            result = put(result, is_alone, k, one)
        record = record + read(record + NEXT)
    return result


# --- programs -------------------------------------------------------------------------------------


@driver
def point_to(form, program, cold, arguments):
    """Write the addresses of all inputs into the words of a program."""
    steps, patches, count = read(program + STEPS), program + INPUTS, read(program + COLD)
    for k in range(count):
        if read(patches) != 0:
            place(steps, read(patches), read(read(cold + ITEMS + 8 * k) + DATA))
        patches = patches + 8
    record = form + FORM
    for k in range(read(form + ARGUMENTS)):
        if read(record + KIND) != SAME:
            if read(patches) != 0:
                place(steps, read(patches), elements(record, read(arguments + 8 * k)))
            patches = patches + 8
        record = record + read(record + NEXT)
    return 0


@driver
def ran(form, program):
    """Run a program; whether its guards are as they were."""
    if read(program + IS_LONG):
        state = ask(system(form, SAVE))
        execute(read(program + STEPS))
        invoke(system(form, RESTORE), state)
    else:
        execute(read(program + STEPS))
    guards = program + read(program + GUARDS)
    guard = guards + 8
    for _ in range(read(guards)):
        found = read(guard + PLACE)
        if read(guard + KIND) == FINITE:
            if read(found) & EXPONENT == EXPONENT:
                return 0
        elif differ(form, found, read(guard + CLASS), read(guard + BYTES)) != 0:
            return 0
        guard = guard + read(guard + NEXT)
    return 1


@driver
def computed(form, program, cold, arguments):
    """The results of a program that nobody else has; 0 where memory is out."""
    result = allocated(form, program)
    if result == 0 and read(program + read(program + OUTPUTS) + 16 + KIND) != SCALAR:
        return 0
    point_to(form, program, cold, arguments)
    if ran(form, program):
        return filled(form, program, result)
    dropped(form, result)
    return told(form, NOTHING)


@driver
def evaluate(owned, arguments, count):
    """(cold, *arguments) -> the outputs of a program, or None.

    `owned` is a tuple of a form, a program, and all that keeps alive what their words point to.
    """
    form, program = read(read(owned + ITEMS) + DATA), read(read(owned + ITEMS + 8) + DATA)
    rest = arguments + 8
    if count != read(form + ARGUMENTS) + 1 or fit(form, rest) == 0 or hold(form) == 0:
        return told(form, NOTHING)
    if replace(program + ENTERED, 0, 1):
        result = computed(form, program, read(arguments), rest)
        store(program + ENTERED, 0)
        return result
    return told(form, NOTHING)


@driver
def accept(owned, arguments, count):
    """arguments -> True if they have the form, and what is watched holds; or None."""
    form = read(read(owned + ITEMS) + DATA)
    if count == read(form + ARGUMENTS):
        if fit(form, arguments) != 0 and hold(form) != 0:
            return told(form, TRUTH)
    return told(form, NOTHING)


@driver
def same(owned, arguments, count):
    """(kept, *arguments) -> True if the arguments are those that were kept, bit by bit; or None."""
    form, rest = read(read(owned + ITEMS) + DATA), arguments + 8
    if count == read(form + ARGUMENTS) + 1:
        if fit(form, rest) != 0 and equal(form, rest, read(arguments)) != 0 and hold(form) != 0:
            return told(form, TRUTH)
    return told(form, NOTHING)
