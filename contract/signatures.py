"""What a pushed model is asked and what it answers: names, defaults and special values.

``docs/serving.md`` explains each of them; tests compare its tables, and the demo page,
with this module.
"""

from collections.abc import Iterable
from typing import Any, Final

from contract.features import HISTORY, HISTORY_TIME, USER_PREFIX

# Signatures. The first is the one that TF Serving runs if a request names none.
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

# Inputs. HISTORY, HISTORY_TIME and the profile features (USER_PREFIX) are named in
# contract.features, because the examples have them too.
K: Final = "k"
EXCLUDE: Final = "exclude"
EXCLUDE_HISTORY: Final = "exclude_history"
DIVERSITY: Final = "diversity"
ALLOW_CATEGORIES: Final = "allow_categories"
DENY_CATEGORIES: Final = "deny_categories"
# Inputs for each side feature that index.filters names: lists of values for a categorical one,
# bounds for a numeric one. Those for the categories above are named alike.
ALLOW_PREFIX: Final = "allow_"
DENY_PREFIX: Final = "deny_"
MIN_PREFIX: Final = "min_"
MAX_PREFIX: Final = "max_"
ITEMS: Final = "items"
OFFSET: Final = "offset"
LIMIT: Final = "limit"
SERIALIZED_EXAMPLES: Final = "examples"

# Inputs [B, anything] whose rows mean the same when they are padded.
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

# What a request gets that does not say. The configuration of the index can set other
# values of the first two.
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
    """Whether an input holds bounds of a numeric feature, string [B]: numbers as text."""
    return name.startswith((MIN_PREFIX, MAX_PREFIX))


def neutral_inputs(names: Iterable[str]) -> dict[str, Any]:
    """Returns the values with which an input of ``serving_default`` asks for nothing.

    Nothing is excluded, no value is listed or bounded, times and profile are unknown.

    Args:
      names: The inputs that a signature has. Those without such a value
        (``history``, ``k`` and ``exclude_history``) are left out.

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
    """Returns the number under which people see an interest: they count from 1.

    Programs see ``interest_index``, which counts from 0, because it is the position
    of the interest in the outputs of ``user_interests``.
    """
    return index + 1
