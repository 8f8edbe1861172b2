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
CATEGORY_FEATURE: Final = "category_feature"  # the one that holds categories, or ""
NUM_LEAVES: Final = "num_leaves"  # partitions by which slots are ordered; 0 is none
NUM_PUSHED: Final = "num_pushed"  # positions before the first slot

# The functions: one encodes items, the other changes the version's state.
DESCRIBE: Final = "describe_items"
APPLY: Final = "apply_changes"

# Inputs of DESCRIBE, one entry for each item. An empty example keeps the pushed vector.
IDS: Final = "ids"
EXAMPLES: Final = "examples"
CATEGORY_NAMES: Final = "category_names"
# Its outputs.
POSITIONS: Final = "positions"  # of the pushed item; -1 if there is none
VECTORS: Final = "vectors"
LEAVES: Final = "leaves"
COUNTS: Final = "counts"
PUSHED_TITLES: Final = "pushed_titles"
PUSHED_CATEGORIES: Final = "pushed_categories"
CATEGORY_NUMBERS: Final = "category_numbers"  # 0 for a name that no item has, and for ""
NUM_CATEGORIES: Final = "num_categories"  # the largest number so far

# Inputs of APPLY, beside some of the above; retrieval.live_items explains them.
SLOTS: Final = "slots"
NEW_TITLES: Final = "titles"
CATEGORIES: Final = "categories"
FREED_IDS: Final = "freed_ids"
REPLACED_BY: Final = "replaced_by"
NUM_REPLACED: Final = "num_replaced"
ORDER: Final = "order"
STARTS: Final = "starts"
FRESH: Final = "fresh"
NEW_CATEGORIES: Final = "new_categories"
# Its output.
NUM_FOUND: Final = "num_found"

# Values for a pushed item that no slot has replaced.
AS_PUSHED: Final = -1
REMOVED: Final = -2
