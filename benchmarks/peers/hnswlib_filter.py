"""hnswlib with a function as filter; see ``filter_run.py``.

https://github.com/nmslib/hnswlib/blob/master/examples/python/example_filter.py
"""

import filter_run
import hnswlib
import numpy as np

_LINKS, _EF_CONSTRUCTION = 32, 100
EFFORTS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)


def new_index(vectors, capacity):
    """Returns an index of ``vectors`` that has room for ``capacity`` vectors in all."""
    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=capacity, ef_construction=_EF_CONSTRUCTION, M=_LINKS // 2)
    index.add_items(vectors)
    return index


def build(vectors, columns):
    """Builds the index; see ``filter_run.main``."""
    index = new_index(vectors, len(vectors))

    def prepare(wish):
        if not wish:
            return None, len(vectors)
        mask = filter_run.filter_mask(columns, wish)
        return mask.tolist().__getitem__, int(mask.sum())

    def search(queries, filter_, depth, effort):
        is_allowed, num_allowed = filter_
        depth = min(depth, num_allowed)  # hnswlib raises an error if it finds fewer
        index.set_ef(max(effort, depth))
        try:
            # hnswlib's README advises one thread for a Python filter, with which several are slow.
            labels, _ = index.knn_query(
                queries, depth, num_threads=1 if is_allowed else -1, filter=is_allowed
            )
        except RuntimeError:  # fewer than `depth` found
            return np.full([len(queries), depth], -1)
        return labels.astype(np.int64)

    return prepare, search


if __name__ == "__main__":
    filter_run.main(build, EFFORTS)
