"""Last pushed model: the baseline in service."""
