"""Changes of the catalogue of a version that serves: names shared by graph and server.

The graph has two functions for them. They are no signatures, because everybody who may ask a
model for answers may call its signatures: their inputs and outputs are described in a file
beside the SavedModel, which only a server reads that knows whom it lets change the catalogue.
"""

from typing import Final

# Where the description is, in the directory of a version.
LIVE_CATALOGUE_PATH: Final = "assets.extra/live_catalogue.json"

# The feature that holds categories, if the configuration names none.
CATEGORY: Final = "category"

# Keys of the description.
FUNCTIONS: Final = "functions"  # SignatureDefs by name, as JSON
FEATURES: Final = "features"  # kind of each side feature by its name
CATEGORY_FEATURE: Final = "category_feature"  # the one that holds categories, or ""
NUM_LEAVES: Final = "num_leaves"  # partitions by which slots are ordered; 0 is none
NUM_PUSHED: Final = "num_pushed"  # positions before the first slot

# The functions: what the version makes of an item, and the change of its state.
DESCRIBE: Final = "describe_items"
APPLY: Final = "apply_changes"

# Inputs of DESCRIBE, one entry for each item. An empty example keeps the pushed vector.
IDS: Final = "ids"
EXAMPLES: Final = "examples"
CATEGORY_NAMES: Final = "category_names"
# Its outputs.
POSITIONS: Final = "positions"  # of the pushed item; -1 is none
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

# What has taken the place of a pushed item, if it is no slot.
AS_PUSHED: Final = -1
REMOVED: Final = -2
