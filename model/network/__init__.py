"""The network: interest capsules, attention, encoders and the MIND model itself."""
