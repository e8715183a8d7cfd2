"""The expected failures; `cli.main` turns each into one message and its exit code."""


class Failure(Exception):
    """The work could not be done."""

    code = 1


class UsageError(Failure):
    """What was asked for makes no sense."""

    code = 2


class NoMemory(Failure):
    """Memory has run out."""


class Interrupted(Failure):
    """Somebody asked for an end; what was done so far is kept."""

    code = 130
