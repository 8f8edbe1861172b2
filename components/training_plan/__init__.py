"""TrainingPlan: requests training from scratch if a guard rail asks for it."""
