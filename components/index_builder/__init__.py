"""Index builder: trained model to served bundle."""
