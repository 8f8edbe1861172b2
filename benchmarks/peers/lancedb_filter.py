"""LanceDB with a condition before the search and scalar indices; see ``filter_run.py``.

https://docs.lancedb.com/search/filtering, https://docs.lancedb.com/indexing/scalar-index
"""

import tempfile

import filter_run
import lancedb
import numpy as np
import pyarrow as pa

# Partitions that are searched, and candidates rescored for each one wanted.
_EFFORTS = ((10, 5), (20, 5), (40, 10), (80, 10), (160, 20), (320, 20), (1000, 40))
_BITMAP_LIMIT = 1000  # values; above it a B-tree, as its documentation says


def build(vectors, columns):
    """Builds the table; see ``filter_run.main``."""
    database = lancedb.connect(tempfile.mkdtemp(prefix="lancedb-"))
    count, dimensions = vectors.shape
    listed = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimensions)
    data = {"id": pa.array(np.arange(count, dtype=np.int32)), "vector": listed}
    data |= {f"c{i}": pa.array(columns[:, i]) for i in range(columns.shape[1])}
    table = database.create_table("items", pa.table(data))
    table.create_index(
        metric="dot",
        index_type="IVF_PQ",
        num_partitions=round(count**0.5),
        num_sub_vectors=dimensions // 2,
    )
    for i in range(columns.shape[1]):
        kind = "BITMAP" if columns[:, i].max() < _BITMAP_LIMIT else "BTREE"
        table.create_scalar_index(f"c{i}", index_type=kind)

    def prepare(wish):
        return filter_run.sql(wish)

    def search(queries, filter_, depth, effort):
        found = np.full([len(queries), depth], -1)
        for row, query in enumerate(queries):
            asked = table.search(query).distance_type("dot").limit(depth).select(["id"])
            asked = asked.nprobes(effort[0]).refine_factor(effort[1])
            if filter_:
                asked = asked.where(filter_, prefilter=True)
            ids = asked.to_arrow()["id"].to_numpy()
            found[row, : len(ids)] = ids
        return found

    return prepare, search


if __name__ == "__main__":
    filter_run.main(build, _EFFORTS)
