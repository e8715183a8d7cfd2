"""Expected failures. `cli.main` turns each into one message and an exit code."""


class Failure(Exception):
    """An error that stops the work."""

    code = 1


class UsageError(Failure):
    """A request that makes no sense."""

    code = 2


class NoMemory(Failure):
    """A failure because memory ran out."""


class Interrupted(Failure):
    """An interruption that somebody asked for. The results so far are kept."""

    code = 130
