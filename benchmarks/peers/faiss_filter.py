"""FAISS with an HNSW or IVF index and a bitmap of the allowed ids; see ``filter_run.py``.

https://github.com/facebookresearch/faiss/wiki/Setting-search-parameters-for-one-query
"""

import sys

import faiss
import filter_run
import numpy as np

_LINKS, _EF_CONSTRUCTION = 32, 100
EFFORTS = {
    "hnsw": (128, 256, 512, 1024, 2048, 4096, 8192, 16384),
    "ivf": (16, 32, 64, 128, 256, 512, 1024),
}


def trained_ivf(vectors):
    """Returns an index without vectors, trained to have about as many lists as vectors in each."""
    lists = round(len(vectors) ** 0.5)
    description = f"IVF{lists},Flat"
    index = faiss.index_factory(vectors.shape[1], description, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[:: max(1, len(vectors) // 100_000)])
    return index


def build(kind):
    """Returns the argument ``build`` of ``filter_run.main`` for ``hnsw`` or ``ivf``."""

    def build_index(vectors, columns):
        if kind == "hnsw":
            index = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = _EF_CONSTRUCTION
        else:
            index = trained_ivf(vectors)
        index.add(vectors)

        def prepare(wish):
            if not wish:
                return None
            bits = np.packbits(filter_run.filter_mask(columns, wish), bitorder="little")
            return faiss.IDSelectorBitmap(bits), bits

        def search(queries, filter_, depth, effort):
            selector = {"sel": filter_[0]} if filter_ else {}
            if kind == "hnsw":
                params = faiss.SearchParametersHNSW(efSearch=max(effort, depth), **selector)
            else:
                params = faiss.SearchParametersIVF(nprobe=effort, **selector)
            return index.search(queries, depth, params=params)[1]

        return prepare, search

    return build_index


if __name__ == "__main__":
    chosen = sys.argv.pop(1)
    filter_run.main(build(chosen), EFFORTS[chosen])
