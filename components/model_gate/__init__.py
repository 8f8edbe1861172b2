"""ModelGate: compares the trained model with others on the same people."""
