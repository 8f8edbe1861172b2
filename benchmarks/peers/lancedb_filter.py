"""LanceDB with scalar indices and a condition that applies before the search.

See ``filter_run.py`` for the measurement.

https://docs.lancedb.com/search/filtering, https://docs.lancedb.com/indexing/scalar-index
"""

import tempfile

import filter_run
import lancedb
import numpy as np
import pyarrow as pa

# Pairs: partitions to search, and candidates to score again for each item wanted.
EFFORTS = ((10, 5), (20, 5), (40, 10), (80, 10), (160, 20), (320, 20), (1000, 40))
_BITMAP_LIMIT = 1000  # values; with more, LanceDB's documentation advises a B-tree


def rows_of(ids, vectors):
    """Returns rows for the table: ids int [n], vectors float32 [n, d]."""
    listed = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return pa.table({"id": pa.array(ids, pa.int32()), "vector": listed})


def new_table(data):
    """Returns a table of ``data`` in its own directory, with an index of the vectors."""
    table = lancedb.connect(tempfile.mkdtemp(prefix="lancedb-")).create_table("items", data)
    table.create_index(
        metric="dot",
        index_type="IVF_PQ",
        num_partitions=round(data.num_rows**0.5),
        num_sub_vectors=data.schema.field("vector").type.list_size // 2,
    )
    return table


def nearest(table, queries, depth, effort, filter_=""):
    """Returns the ids of the nearest items, int [K, depth], padded with -1.

    Args:
      table: See ``new_table``.
      queries: float32 [K, d].
      depth: Number of items for each query.
      effort: One of ``EFFORTS``.
      filter_: SQL condition on the columns; "" allows all rows.
    """
    found = np.full([len(queries), depth], -1)
    for row, query in enumerate(queries):
        asked = table.search(query).distance_type("dot").limit(depth).select(["id"])
        asked = asked.nprobes(effort[0]).refine_factor(effort[1])
        if filter_:
            asked = asked.where(filter_, prefilter=True)
        ids = asked.to_arrow()["id"].to_numpy()
        found[row, : len(ids)] = ids
    return found


def build(vectors, columns):
    """Builds the table; see ``filter_run.main``."""
    data = rows_of(np.arange(len(vectors)), vectors)
    for i in range(columns.shape[1]):
        data = data.append_column(f"c{i}", pa.array(columns[:, i]))
    table = new_table(data)
    for i in range(columns.shape[1]):
        kind = "BITMAP" if columns[:, i].max() < _BITMAP_LIMIT else "BTREE"
        table.create_scalar_index(f"c{i}", index_type=kind)

    def prepare(wish):
        return filter_run.sql(wish)

    def search(queries, filter_, depth, effort):
        return nearest(table, queries, depth, effort, filter_)

    return prepare, search


if __name__ == "__main__":
    filter_run.main(build, EFFORTS)
