"""What summary and report say of a training in words."""

from collections.abc import Mapping
from typing import Any

from contract.training_report import FROM_NOTHING_BECAUSE


def notes(summary: Mapping[str, Any]) -> list[str]:
    """Sentences on how the model came about, as far as that is not the usual way."""
    found = []
    because = (summary["training"] or {}).get(FROM_NOTHING_BECAUSE)
    if because:
        found.append(f"The training started from nothing: {because}.")
    if final := summary.get("final_training"):
        found.append(
            f"The model to push was trained anew for the same {final['steps']:,} steps, the test "
            "events included."
        )
    return found
