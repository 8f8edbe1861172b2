"""The Trainer's report, which readers find without the Trainer's code."""

# File in the Trainer's output directory of the run: a ``TrainingResult`` as JSON.
TRAINING_REPORT = "training_report.json"

# In the report: whether several interests were kept, and by which figures (an
# ``InterestChoice`` as JSON), or null if nothing was compared.
INTEREST_CHOICE = "interest_choice"

# In the report, in the manifest and among the Trainer's hyperparameters: why a training that
# might have gone on from an earlier model starts from nothing.
FROM_NOTHING_BECAUSE = "from_nothing_because"
