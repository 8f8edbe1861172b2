"""AnomalyGate: stops the run when the data contradicts the schema."""
