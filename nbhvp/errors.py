"""The one exception that is ours; everything else raises a built-in type."""


class TraceError(TypeError):
    """A function cannot be differentiated as it is written.

    The message names the line of the user's code, what happened there, and what to write instead.
    """


def pass_on_interrupt(library) -> None:
    """Raise the KeyboardInterrupt that came while LLVM handed over the code of a library of numba's.

    It hands it over in a call from C, which drops what is raised there: the code is then missing.
    """
    if library._compiled_object is None:
        raise KeyboardInterrupt
