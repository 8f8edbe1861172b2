"""TrainingPlan: a training from nothing where a guard rail asks for it."""
