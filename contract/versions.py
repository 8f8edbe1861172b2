"""Version directories, as TF Serving reads them: named by a number, with a SavedModel inside."""

# A version without this file is incomplete; it is written last.
SAVED_MODEL_FILE = "saved_model.pb"

# Requests that servers replay before a version takes traffic.
WARMUP_PATH = "assets.extra/tf_serving_warmup_requests"


def is_version_name(name: str) -> bool:
    """Whether a directory of this name is a version: decimal digits only."""
    # isdigit alone accepts digits of other scripts too.
    return name.isascii() and name.isdigit()
