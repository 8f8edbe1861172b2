"""What the packages agree on: names, configuration types and formats.

Nothing in this package imports TensorFlow, so that a client, a document or a
test can read the contract without it.
"""
