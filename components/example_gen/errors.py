"""The error of unusable input data."""


class DataError(ValueError):
    """Input data that cannot be used; its message is written for the user."""
