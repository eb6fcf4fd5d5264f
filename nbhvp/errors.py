"""The exception and the warning of the package. All other errors have built-in types."""


class TraceError(TypeError):
    """nbhvp cannot differentiate a function as it is written.

    The message begins with the file and line of the user's code, and says what to write instead.
    """


class CompileTimeWarning(UserWarning):
    """Compiling derivatives of a function is predicted to take long.

    The message says how long, why, and what to do. Each function warns once.
    """


def pass_on_interrupt(library) -> None:
    """Raise the KeyboardInterrupt that came while LLVM handed over the code of a library of numba's.

    It hands it over in a call from C, which drops what is raised there: the code is then missing.
    """
    if library._compiled_object is None:
        raise KeyboardInterrupt
