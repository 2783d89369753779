"""The one exception that means: the user's input is at fault, and the message says which and what to do."""


class BadInput(ValueError):
    """One clear sentence that names the file or option and the remedy; the command line prints it, exit code 2."""
