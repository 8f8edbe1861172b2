"""IndexValidator: tries a bundle in the way that a server uses it."""
