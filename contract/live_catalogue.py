"""Names shared by graph and server for catalogue changes in a version that is being served.

The graph has two functions for such changes. They are not signatures, because every client of a
model may call its signatures. Instead, a file beside the SavedModel describes their inputs and
outputs. Only a server that controls who may change the catalogue reads this file.
"""

from typing import Final

# Path of the description in the directory of a version.
LIVE_CATALOGUE_PATH: Final = "assets.extra/live_catalogue.json"

# The feature that holds categories, if the configuration names none.
CATEGORY: Final = "category"

# Keys of the description.
FUNCTIONS: Final = "functions"  # SignatureDefs by name, as JSON
FEATURES: Final = "features"  # kind of each side feature by its name
COLUMNS: Final = "columns"  # for each column, the name of its feature
NUM_LEAVES: Final = "num_leaves"  # partitions by which slots are ordered; 0 is none
NUM_PUSHED: Final = "num_pushed"  # positions before the first slot

# The functions: one encodes items, the other changes the version's state.
DESCRIBE: Final = "describe_items"
APPLY: Final = "apply_changes"

# Columns hold the features by which requests filter: the categories, and those of
# ``filter_column``.
CATEGORIES: Final = "categories"

# Inputs of DESCRIBE, one entry for each item, beside those of the columns. An empty example keeps
# the pushed vector.
IDS: Final = "ids"
EXAMPLES: Final = "examples"
# Its outputs.
POSITIONS: Final = "positions"  # of the pushed item; -1 if there is none
VECTORS: Final = "vectors"
LEAVES: Final = "leaves"
COUNTS: Final = "counts"
PUSHED_TITLES: Final = "pushed_titles"

# Inputs of APPLY, beside some of the above; retrieval.live_items explains them.
SLOTS: Final = "slots"
NEW_TITLES: Final = "titles"
FREED_IDS: Final = "freed_ids"
REPLACED_BY: Final = "replaced_by"
NUM_REPLACED: Final = "num_replaced"
ORDER: Final = "order"
STARTS: Final = "starts"
FRESH: Final = "fresh"
# Its output.
NUM_FOUND: Final = "num_found"

# Values for a pushed item that no slot has replaced.
AS_PUSHED: Final = -1
REMOVED: Final = -2


def filter_column(feature: str) -> str:
    """Returns the column of a feature that ``index.filters`` names."""
    return f"filter_{feature}"


# Inputs and outputs for a column. M is the number of items, F the most values of one of them.


def given_names(column: str) -> str:
    """Returns the input of DESCRIBE with values of a categorical feature, string [M, F]."""
    return f"{column}_given"


def numbers_of_names(column: str) -> str:
    """Returns the output of DESCRIBE with the numbers of ``given_names``, int32 [M, F].

    A number is 0 for a name that no item has, and for "".
    """
    return f"{column}_numbers"


def num_names(column: str) -> str:
    """Returns the output of DESCRIBE with the largest number so far, int32 []."""
    return f"{column}_size"


def pushed_values(column: str) -> str:
    """Returns the output of DESCRIBE with the values as they were pushed, [M, F].

    They are numbers of names, int32 padded with 0, or of a numeric feature float32 padded with NaN.
    """
    return f"{column}_pushed"


def new_values(column: str) -> str:
    """Returns the input of APPLY with the values of the written slots, as ``pushed_values``."""
    return f"{column}_values"


def new_names(column: str) -> str:
    """Returns the input of APPLY with the names that get the next numbers, string [W]."""
    return f"{column}_new_names"
