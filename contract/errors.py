"""Errors whose message is written for the person who runs the pipeline, and how to show errors."""

from collections.abc import Iterator


class UserError(ValueError):
    """An error that says what is wrong, what was expected and received, and what to do.

    Code that shows errors to people shows this message before the errors that caused it.
    """


def explain(error: BaseException) -> str:
    """Returns the message to show: that of a ``UserError`` first, then its cause.

    Args:
      error: The error that stopped the work, possibly wrapped by Beam and TFX.
    """
    ours = next((e for e in chain(error) if isinstance(e, UserError)), None)
    if ours is None:
        return _named(_root(error))
    cause = _root(ours)
    if cause is ours or str(cause) in str(ours):
        return str(ours)
    return f"{ours}\nCause: {_named(cause)}"


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields the error and the errors that caused it, the outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
