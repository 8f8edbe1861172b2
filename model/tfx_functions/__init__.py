"""What TFX calls and what that reads and writes: preprocessing_fn, run_fn, the export."""
