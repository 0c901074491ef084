"""What a log raises in the tests to end a training as a kill would."""


class KilledError(Exception):
    """The end of a training that is to be resumed."""
