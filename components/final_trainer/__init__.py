"""FinalTrainer: trains a blessed model again, including the events that it was evaluated on."""
