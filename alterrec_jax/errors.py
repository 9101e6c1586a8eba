"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Something the user can mend: bad input, a bad setting, a full disk.

    The message is one line that names the thing and the remedy. `alterrec_jax.cli.run` prints it
    without a traceback and exits with a status that is not 0; any other exception is a bug.
    """
