"""Names, defaults and special values in the requests and answers of a pushed model.

``docs/serving.md`` explains each of them; tests compare its tables and the demo page
with this module.
"""

from collections.abc import Iterable
from typing import Any, Final

from contract.features import HISTORY, HISTORY_TIME, USER_PREFIX

# Signatures. TF Serving runs the first one if a request does not name a signature.
SERVE: Final = "serving_default"
RECOMMEND: Final = "recommend"
SIMILAR_ITEMS: Final = "similar_items"
USER_INTERESTS: Final = "user_interests"
ITEM_EMBEDDINGS: Final = "item_embeddings"
ITEM_TITLES: Final = "item_titles"
ITEM_CATEGORIES: Final = "item_categories"
LIST_CATEGORIES: Final = "list_categories"
LIST_ITEMS: Final = "list_items"
EVALUATE: Final = "evaluate"

# Inputs. contract.features names HISTORY, HISTORY_TIME and the profile features (USER_PREFIX),
# because the examples contain them, too.
K: Final = "k"
EXCLUDE: Final = "exclude"
EXCLUDE_HISTORY: Final = "exclude_history"
DIVERSITY: Final = "diversity"
ALLOW_CATEGORIES: Final = "allow_categories"
DENY_CATEGORIES: Final = "deny_categories"
# Prefixes of the inputs for the side features in index.filters: lists of values for a categorical
# feature, bounds for a numeric one. The inputs for categories above follow the same pattern.
ALLOW_PREFIX: Final = "allow_"
DENY_PREFIX: Final = "deny_"
MIN_PREFIX: Final = "min_"
MAX_PREFIX: Final = "max_"
ITEMS: Final = "items"
OFFSET: Final = "offset"
LIMIT: Final = "limit"
SERIALIZED_EXAMPLES: Final = "examples"

# Inputs [B, any width] whose rows keep their meaning when they are padded.
PADDED_INPUTS: Final = (HISTORY, HISTORY_TIME, EXCLUDE, ALLOW_CATEGORIES, DENY_CATEGORIES)

# Outputs. Those of EVALUATE are in contract.evaluation_outputs.
ITEM_IDS: Final = "item_ids"
SCORES: Final = "scores"
INTEREST_INDEX: Final = "interest_index"
NUM_KNOWN: Final = "num_known"
INTERESTS: Final = "interests"
INTEREST_MASK: Final = "interest_mask"
HISTORY_INDEX: Final = "history_index"
OWN_INDEX: Final = "own_index"
OWN_BONUS: Final = "own_bonus"
VECTORS: Final = "vectors"
KNOWN: Final = "known"
TITLES: Final = "titles"
CATEGORIES: Final = "categories"
ITEM_COUNTS: Final = "item_counts"
TRAIN_COUNTS: Final = "train_counts"

# Special values.
PADDING: Final = ""  # no item, no category, an unknown profile value
UNKNOWN_TIME: Final = 0
NO_INTEREST: Final = -1  # INTEREST_INDEX of a popular item, and of padding

# Defaults for requests that leave an option out. The configuration of the index can change the
# first two.
DEFAULT_K: Final = 10
DEFAULT_EXCLUDE_HISTORY: Final = True
DEFAULT_DIVERSITY: Final = 0.0
DEFAULT_LIMIT: Final = 1000

_NEUTRAL: dict[str, Any] = {
    EXCLUDE: [[PADDING]],
    DIVERSITY: DEFAULT_DIVERSITY,
    ALLOW_CATEGORIES: [[PADDING]],
    DENY_CATEGORIES: [[PADDING]],
    HISTORY_TIME: [[UNKNOWN_TIME]],
}


def is_value_list(name: str) -> bool:
    """Whether an input holds lists of values, string [B, C], that may be padded."""
    return name.startswith((ALLOW_PREFIX, DENY_PREFIX))


def is_bound(name: str) -> bool:
    """Whether an input holds bounds of a numeric feature as text, string [B]."""
    return name.startswith((MIN_PREFIX, MAX_PREFIX))


def neutral_inputs(names: Iterable[str]) -> dict[str, Any]:
    """Returns the values of inputs of ``serving_default`` that have no effect.

    They exclude nothing, list no values and set no bounds; times and profile are unknown.

    Args:
      names: Names of a signature's inputs. Inputs without such a value
        (``history``, ``k`` and ``exclude_history``) are left out of the result.

    Returns:
      Nested lists or numbers by input name, valid for any number of rows.
    """
    values = {}
    for name in names:
        if name in _NEUTRAL:
            values[name] = _NEUTRAL[name]
        elif is_value_list(name):
            values[name] = [[PADDING]]
        elif is_bound(name) or name.startswith(USER_PREFIX):
            values[name] = [PADDING]
    return values


def interest_number(index: int) -> int:
    """Returns the number of an interest that people see, which counts from 1.

    Programs see ``interest_index``, which counts from 0, because it is the position
    of the interest in the outputs of ``user_interests``.
    """
    return index + 1
