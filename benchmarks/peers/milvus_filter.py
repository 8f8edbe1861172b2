"""Milvus Lite with a filter expression; see ``filter_run.py``.

https://milvus.io/docs/filtered-search.md
"""

import tempfile

import filter_run
import numpy as np
from pymilvus import DataType, MilvusClient

_LINKS, _EF_CONSTRUCTION = 32, 100
_EFFORTS = (128, 256, 512, 1024, 2048, 4096)
_ROWS_AT_ONCE = 10_000
_BUILD_SECONDS = 3600.0  # after a timeout the client would call again, and that call fails


def build(vectors, columns):
    """Builds the collection; see ``filter_run.main``."""
    client = MilvusClient(f"{tempfile.mkdtemp(prefix='milvus-')}/items.db")
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
    for i in range(columns.shape[1]):
        schema.add_field(f"c{i}", DataType.INT32)
    params = client.prepare_index_params()
    params.add_index(
        "vector",
        index_type="HNSW",
        metric_type="IP",
        params={"M": _LINKS, "efConstruction": _EF_CONSTRUCTION},
    )
    for i in range(columns.shape[1]):
        params.add_index(f"c{i}", index_type="INVERTED")
    client.create_collection("items", schema=schema)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, len(vectors))
        rows = [
            {"id": row, "vector": vectors[row]}
            | {f"c{i}": int(value) for i, value in enumerate(columns[row])}
            for row in range(start, stop)
        ]
        client.insert("items", rows)
    client.flush("items")
    client.create_index("items", params, timeout=_BUILD_SECONDS)
    client.load_collection("items")

    def search(queries, filter_, depth, effort):
        answer = client.search(
            "items",
            data=list(queries),
            filter=filter_,
            limit=depth,
            search_params={"params": {"ef": max(effort, depth)}},
        )
        found = np.full([len(queries), depth], -1)
        for row, hits in enumerate(answer):
            found[row, : len(hits)] = [hit["id"] for hit in hits]
        return found

    def prepare(wish):
        return filter_run.sql(wish, "[]")

    return prepare, search


if __name__ == "__main__":
    filter_run.main(build, _EFFORTS)
