"""DataGate: compares the newest data with earlier spans and with the data last accepted."""
