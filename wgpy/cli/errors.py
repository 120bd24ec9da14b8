"""The one exception that a command raises to end with a line on standard error."""


class CommandError(Exception):
    """A failure told in one line: what is wrong, where, and what to do.

    `wgpy: TEXT` is printed and the command exits with 1. Nothing secret belongs in the text.
    """
