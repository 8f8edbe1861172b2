"""DataGate: compares the data with the spans before it and with the data last accepted."""
