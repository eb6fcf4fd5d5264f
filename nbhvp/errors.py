"""The one exception that is ours; everything else raises a built-in type."""


class TraceError(TypeError):
    """A function cannot be differentiated as it is written.

    The message names the line of the user's code, what happened there, and what to write instead.
    """
