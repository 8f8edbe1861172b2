"""FinalTrainer: a judged model learns what it was judged by as well."""
