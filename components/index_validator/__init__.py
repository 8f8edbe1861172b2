"""Index validator: a bundle tried as a server would."""
