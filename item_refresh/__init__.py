"""Item refresh: new items into a pushed version, without training."""
