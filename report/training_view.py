"""Sentences about the training for the summary and the report."""

from collections.abc import Mapping
from typing import Any

from contract.manifest import NUM_INTERESTS
from contract.training_report import FROM_NOTHING_BECAUSE, INTEREST_CHOICE


def notes(summary: Mapping[str, Any]) -> list[str]:
    """Returns sentences about how the model was trained, where that was unusual."""
    found = []
    because = (summary["training"] or {}).get(FROM_NOTHING_BECAUSE)
    if because:
        found.append(f"The training started from nothing: {because}.")
    if choice := (summary["training"] or {}).get(INTEREST_CHOICE):
        k, cutoff = choice["several"], choice["cutoff"]
        kept = choice[NUM_INTERESTS]
        found.append(
            f"{kept if kept > 1 else 'One'} interest{'s are' if kept > 1 else ' is'} kept: "
            f"Recall@{cutoff} of {choice['people']:,} validation people is "
            f"{choice['recall_with_several']:.4f} with {k} interests and "
            f"{choice['recall_with_one']:.4f} with one (difference "
            f"{choice['low']:+.4f} to {choice['high']:+.4f}, 95 %)."
        )
    if final := summary.get("final_training"):
        found.append(
            f"The model to push was trained again for the same {final['steps']:,} steps, including "
            "the test events."
        )
    return found
