"""Loads the templates of the HTML pages."""

from typing import Any

import jinja2


def environment(**filters: Any) -> jinja2.Environment:
    """Creates an environment that finds this package's templates and escapes all values.

    Unknown names in a template are errors.

    Args:
      **filters: Filters by the name that templates use.
    """
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(filters)
    return found
