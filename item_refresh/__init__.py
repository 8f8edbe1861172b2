"""Item refresh: adds new and changed items to a pushed version without training."""
