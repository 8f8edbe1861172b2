"""LastPushedModel: provides the model in service as the baseline."""
