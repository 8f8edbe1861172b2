"""The MIND model: layers, losses, input pipeline, training and export.

Nothing in this package depends on TFX orchestration; every module also works
in a plain TensorFlow program.
"""

import os

# The stack is built on Keras 2 (tf-keras). TensorFlow reads this variable when it is
# first imported, so it must be set before any module below imports TensorFlow.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

# TensorFlow's own pool for tensors in main memory. Without it every large tensor of a
# training step is mapped and unmapped anew, and the kernel fills the pages with zeros each
# time, which took up to half of the CPU time of training (docs/experiments.md, "Memory of
# tensors"). The pool would end at 64 GB; its pages are mapped only when a tensor needs them,
# so the limit of a terabyte leaves the end to the machine.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")
os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(2**20))
