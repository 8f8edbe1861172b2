"""Names in the Trainer's report, so that readers of the report do not import the Trainer's code."""

# The report: a file in the Trainer's model run directory with a ``TrainingResult`` as JSON.
TRAINING_REPORT = "training_report.json"

# Key in the report: whether several interests were kept, and the figures that decided it (an
# ``InterestChoice`` as JSON), or null if nothing was compared.
INTEREST_CHOICE = "interest_choice"

# Key in the report, in the manifest and among the Trainer's hyperparameters: why a training that
# is configured to continue from an earlier model starts from scratch.
FROM_NOTHING_BECAUSE = "from_nothing_because"
