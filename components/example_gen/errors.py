"""The error of unusable input data."""

from contract.errors import UserError


class DataError(UserError):
    """Input data that cannot be used."""
