"""InteractionExampleGen: turns interaction logs into one sequence per person."""
