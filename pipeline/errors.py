"""The two kinds of expected failure; `cli.main` turns each into one message and an exit code."""


class Failure(Exception):
    """The work could not be done: exit code 1."""


class UsageError(Failure):
    """What was asked for makes no sense: exit code 2."""
