"""Training: losses, sampling, optimizer, input windows and the loop."""
