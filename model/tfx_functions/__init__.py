"""The functions that TFX calls, such as ``preprocessing_fn`` and ``run_fn``, and the export."""
