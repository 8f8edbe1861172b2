"""The Trainer's report, which readers find without the Trainer's code."""

# File in the Trainer's output directory of the run: a ``TrainingResult`` as JSON.
TRAINING_REPORT = "training_report.json"
