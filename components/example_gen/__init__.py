"""InteractionExampleGen: interaction logs to one sequence per person."""
