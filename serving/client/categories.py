"""Warns about categories that the catalogue does not have.

The model accepts any name: a category that a request lists may vanish from the catalogue with the
next version, and requests that worked must not turn into errors then. Denying such a category
changes nothing, because no item has it. Allowing only such a category leaves no item. A misspelt
name looks the same to the model, so the client compares the names with those of the catalogue and
warns.
"""

import difflib
import warnings
from collections.abc import Iterable

from contract.requests import RequestOptions, listed_categories

_SHOWN = 5  # names in a message if none is similar


class UnknownCategoryWarning(UserWarning):
    """A request lists a category that no item of the catalogue has.

    ``warnings.simplefilter("error", UnknownCategoryWarning)`` turns the warning into an exception,
    which is raised before the request is sent.
    """


class CategoryCheck:
    """Compares the category lists of requests with the names of the catalogue.

    The names are requested when a request first lists a category, and again when it lists one that
    is not among them, because a new version may have added it. Each unknown name is reported only
    once.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._reported: set[str] = set()

    def must_ask(self, options: RequestOptions) -> bool:
        """Whether ``learn`` has to be called before ``warn``."""
        return bool(self._unknown(options))

    def learn(self, names: Iterable[str]) -> None:
        """Stores the names of the catalogue's categories, the largest category first."""
        self._names = tuple(names)

    def warn(self, options: RequestOptions) -> None:
        """Warns once about each listed category that the catalogue does not have.

        Raises:
          UnknownCategoryWarning: if the filters of ``warnings`` turn it into an error.
        """
        for name in sorted(self._unknown(options)):
            # The warning points at the caller of `recommend`, which calls this.
            warnings.warn(self._message(name), UnknownCategoryWarning, stacklevel=3)
            self._reported.add(name)

    def _unknown(self, options: RequestOptions) -> set[str]:
        return listed_categories(options) - set(self._names) - self._reported

    def _message(self, name: str) -> str:
        by_folded = {known.casefold(): known for known in reversed(self._names)}
        near = difflib.get_close_matches(name.casefold(), by_folded, n=1)
        if near:
            hint = f"did you mean {by_folded[near[0]]!r}?"
        else:
            hint = f"the largest categories are {', '.join(map(repr, self._names[:_SHOWN]))}"
        return f"no item of the catalogue has the category {name!r}; {hint}"
