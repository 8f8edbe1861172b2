"""Lookup tables that are filled from variables of the SavedModel."""

import tensorflow as tf
from tensorflow.python.ops import lookup_ops


class VocabularyInitializer(lookup_ops.TableInitializerBase):
    """Fills a table that maps ids to their rows in a variable.

    Such tables are usually filled from a text file, but a text file cannot hold an id that contains
    a line break.
    """

    def __init__(self, ids: tf.Variable) -> None:
        super().__init__(tf.string, tf.int32)
        self._ids = ids

    def initialize(self, table: tf.lookup.StaticHashTable) -> tf.Operation:
        """Returns the operation that fills ``table``; runs after the variables are restored."""
        ids = self._ids.read_value()
        return tf.raw_ops.LookupTableImportV2(
            table_handle=table.resource_handle, keys=ids, values=tf.range(tf.size(ids))
        )
