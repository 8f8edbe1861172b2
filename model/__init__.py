"""The MIND model: layers, losses, input pipeline, training and export.

Nothing in this package depends on TFX orchestration; every module also works
in a plain TensorFlow program.
"""

import os

# The stack is built on Keras 2 (tf-keras). TensorFlow reads this variable when it is
# first imported, so it must be set before any module below imports TensorFlow.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
