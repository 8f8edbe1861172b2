"""The base of errors whose message is written for the person who runs the pipeline."""


class UserError(ValueError):
    """Says what is wrong, what was expected, what was received and what to do.

    What shows errors to people shows this message before the errors that caused it.
    """
