"""TraceError, the only exception class of the package. All other errors have built-in types."""


class TraceError(TypeError):
    """nbhvp cannot differentiate a function as it is written.

    The message begins with the file and line of the user's code, and says what to write instead.
    """


def pass_on_interrupt(library) -> None:
    """Raise the KeyboardInterrupt that came while LLVM handed over the code of a library of numba's.

    It hands it over in a call from C, which drops what is raised there: the code is then missing.
    """
    if library._compiled_object is None:
        raise KeyboardInterrupt
