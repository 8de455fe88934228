"""What ends a command with one line for a person.

Failed          exit 1: it could not be done; the line says what to do
└── Misused     exit 2: wrong use, or a mistake in the configuration
"""

__all__ = ["Failed", "Misused"]


class Failed(Exception):
    """Could not be done, for a reason that a person can mend."""

    exit_code = 1


class Misused(Failed):
    """Wrong use, or a mistake in the configuration."""

    exit_code = 2
