"""A server as one would write it without this project: model and FAISS behind FastAPI.

The script runs in its own environment (see ``benchmarks/peers/__init__.py``), so it
imports nothing from this project:

  faiss_server.py MODEL_DIR flat|hnsw PORT INDEX_FILE

The index is read from INDEX_FILE if that exists, otherwise built and written to it.
"""

import os
import sys

import faiss
import numpy as np
import tensorflow as tf
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

# Usual settings, from FAISS's wiki; the benchmark chooses efSearch by recall.
_HNSW_LINKS = 32
_HNSW_EF_CONSTRUCTION = 100


class Request(BaseModel):
    """Histories, all of the same length, and the number of items to recommend."""

    history: list[list[str]]
    k: int = 100


def make_index(vectors: np.ndarray, kind: str) -> faiss.Index:
    """Returns an index of ``vectors``, float32 [N, d], by inner product: ``flat`` or ``hnsw``."""
    if kind == "flat":
        index = faiss.IndexFlatIP(vectors.shape[1])
    else:
        index = faiss.IndexHNSWFlat(vectors.shape[1], _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _HNSW_EF_CONSTRUCTION
    index.add(vectors)
    return index


def build(model_dir: str, kind: str, index_file: str) -> FastAPI:
    """Loads the trained model, indexes its item vectors and returns the application."""
    tower = tf.saved_model.load(model_dir)
    item_ids = np.array([item.decode() for item in tower.item_ids.numpy()], object)
    position = {item: i for i, item in enumerate(item_ids)}
    if os.path.exists(index_file):
        index = faiss.read_index(index_file)
    else:
        index = make_index(tower.item_vectors.numpy(), kind)
        faiss.write_index(index, index_file)
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.post("/ef_search/{value}")
    def ef_search(value: int) -> dict[str, int]:
        index.hnsw.efSearch = value
        return {"ef_search": value}

    @app.post("/recommend")
    def recommend(request: Request) -> dict[str, list]:
        user = tower.user_interests(tf.constant(request.history), {})
        interests = user["interests"].numpy()  # [B, K, d]
        mask = user["interest_mask"].numpy()
        seen = [{position.get(item, -1) for item in row} for row in request.history]
        depth = request.k + max(map(len, seen), default=0)
        batch, num_interests, dimensions = interests.shape
        scores, rows = index.search(interests.reshape(-1, dimensions), depth)
        scores = scores.reshape(batch, num_interests, depth)
        rows = rows.reshape(batch, num_interests, depth)
        ids, best = [], []
        for person in range(batch):
            active = mask[person]
            candidates = rows[person][active].ravel()
            order = np.argsort(-scores[person][active].ravel(), kind="stable")
            _, first = np.unique(candidates[order], return_index=True)
            merged = order[np.sort(first)]
            merged = [i for i in merged if candidates[i] not in seen[person]][: request.k]
            ids.append(item_ids[candidates[merged]].tolist())
            best.append(scores[person][active].ravel()[merged].tolist())
        return {"item_ids": ids, "scores": best}

    return app


if __name__ == "__main__":
    uvicorn.run(
        build(sys.argv[1], sys.argv[2], sys.argv[4]),
        host="127.0.0.1",
        port=int(sys.argv[3]),
        log_level="error",
    )
