"""IndexBuilder: turns a trained model into the bundle that is served."""
