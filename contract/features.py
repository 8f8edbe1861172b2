"""Feature names: the contract between ExampleGen, Transform, model and serving."""

# Raw sequence rows (train, eval, test).
USER_ID = "user_id"
ITEM_ID = "item_id"  # oldest first
TIMESTAMP = "timestamp"  # seconds
NUM_TARGETS = "num_targets"  # the last n items are targets; 0 in train
NUM_CONTEXT = "num_context"  # leading items of a chunk that are not targets
HISTORY_LENGTH_BUCKET = "history_length_bucket"  # eval and test; a TFMA slice

# Raw catalogue rows also carry ITEM_ID.
TITLE = "title"

# Transformed catalogue rows: the raw values of the side feature that is the category.
CATEGORY = "category"

# Prefixes of side and profile features, raw and transformed.
ITEM_PREFIX = "item_"
USER_PREFIX = "user_"
# Transformed catalogue rows: the raw values of a side feature by which requests filter.
FILTER_PREFIX = "filter_"

# Transformed rows. Index 0 is padding or an unknown item.
SEQUENCE = "sequence"
SEQUENCE_TIME = "sequence_time"  # seconds, only if the model asks for it
HISTORY = "history"
HISTORY_TIME = "history_time"
TARGETS = "targets"
ITEM_INDEX = "item_index"

# Splits.
TRAIN = "train"
EVAL = "eval"
TEST = "test"
CATALOG = "catalog"
SPLITS = (TRAIN, EVAL, TEST, CATALOG)
# Written on request: all events that are not in train, in the format of train.
REST = "rest"

# Vocabulary name inside the transform graph.
ITEM_VOCABULARY = "items"


def splits(with_rest: bool) -> list[str]:
    """Names of the splits that a run writes."""
    return [*SPLITS, *([REST] if with_rest else [])]


def side_feature(name: str) -> str:
    """Feature name of the item side feature ``name``."""
    return ITEM_PREFIX + name


def filter_feature(name: str) -> str:
    """Feature name of the raw values of the side feature ``name``."""
    return FILTER_PREFIX + name


def profile_feature(name: str) -> str:
    """Feature name of the profile feature ``name``."""
    return USER_PREFIX + name
