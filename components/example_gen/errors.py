"""The error of unusable input data."""

from contract.errors import UserError


class DataError(UserError):
    """Raised when input data cannot be used."""
