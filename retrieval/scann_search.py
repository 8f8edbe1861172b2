"""Approximate search over item vectors inside the served graph, with ScaNN."""

import dataclasses
import hashlib

import numpy as np
import tensorflow as tf

from contract.manifest import ALGORITHM, MERGE_COSINE, SCANN_HASHED, SCANN_TREE
from retrieval.interest_merging import NEVER, merge_interests
from retrieval.search import ANY_CANDIDATES, SCORES_PER_BLOCK, Candidates, ExactSearch
from retrieval.tower import blocks

# Items whose vectors train the ScaNN partitions and codebooks: at least so many, and for each
# partition.
_TRAINING_SAMPLE = 100_000
_SAMPLE_PER_LEAF = 30
# Two dimensions per 4-bit code: the finest ScaNN offers, 8x smaller than float32.
_DIMENSIONS_PER_BLOCK = 2
# Anisotropic quantisation, the value of ScaNN's documentation
# (https://github.com/google-research/google-research/blob/master/scann/docs/algorithms.md).
_ANISOTROPIC_THRESHOLD = 0.2


@dataclasses.dataclass(frozen=True)
class ScannSettings:
    """What can be changed on a built ScaNN index, per query.

    Attributes:
      leaves_to_search: Partitions scored; of no effect without a tree.
      reorder: Candidates whose exact score is computed, per search.
    """

    leaves_to_search: int
    reorder: int


def _have_one_length(vectors: tf.Variable) -> bool:
    """Returns whether all vectors [R, d] are of length 1 but for rounding, as the model's are."""
    return all(
        np.allclose(np.linalg.norm(block, axis=1), 1.0, atol=1e-3) for _, block in blocks(vectors)
    )


class ScannSearch(tf.Module):
    """Approximate search with ScaNN's TensorFlow ops.

    ``tfrs.layers.factorized_top_k.ScaNN`` is not used: it always builds a tree,
    holds a second copy of the vectors and fixes the settings at build time, so
    that every setting tried would be another build.
    """

    is_exact = False

    def __init__(
        self,
        vectors: tf.Variable,
        num_leaves: int,
        settings: ScannSettings,
        recall_k: int,
    ) -> None:
        """Builds the index.

        Args:
          vectors: float32 [R, d], R at least 1.
          num_leaves: Partitions; 0 scores the hash of every item.
          settings: Initial settings; see ``use``.
          recall_k: Items shown at which the settings hold; a larger request
            searches proportionally more.
        """
        super().__init__(name="scann_search")
        # Imported here so that the exact kind needs no ScaNN.
        from scann.scann_ops.py import scann_ops

        self._ops = scann_ops
        self.vectors = vectors
        self.num_leaves = num_leaves
        self._recall_k = recall_k
        builder = scann_ops.builder(vectors.read_value(), recall_k, "dot_product")
        if num_leaves:
            builder = builder.tree(
                num_leaves=num_leaves,
                num_leaves_to_search=min(settings.leaves_to_search, num_leaves),
                training_sample_size=max(_TRAINING_SAMPLE, num_leaves * _SAMPLE_PER_LEAF),
                # Leaves are chosen by the product of their centre and the query, so that among
                # items of one length shorter centres, those of wider leaves, would lose.
                spherical=_have_one_length(vectors),
            )
        # Without ScaNN's own reordering, for which it would hold a second copy of the vectors.
        builder = builder.score_ah(
            _DIMENSIONS_PER_BLOCK,
            anisotropic_quantization_threshold=_ANISOTROPIC_THRESHOLD,
            training_sample_size=_TRAINING_SAMPLE,
        )
        built = builder.build().searcher_handle
        state = scann_ops.scann_to_tensors(built)
        tf.raw_ops.DestroyResourceOp(resource=built)
        self._state = {
            name: tf.Variable(value, trainable=False, name=name)
            for name, value in state._asdict().items()
            if name != "dataset"
        }
        # ScaNN looks its index up by this name in the whole process: two that
        # are built in one process must not share it.
        digest = hashlib.sha256(repr((num_leaves, recall_k)).encode())
        for _, value in sorted(self._state.items()):
            array = np.asarray(value.numpy())
            digest.update(b"".join(array.ravel()) if array.dtype == object else array.tobytes())
        self._shared_name = f"index-{digest.hexdigest()[:32]}"
        # Of fewer items than there are codes ScaNN makes no hashes, and compares the vectors.
        self._has_hashes = bool(self._state["hashed_dataset"].shape.rank)
        self.leaves_to_search = tf.Variable(
            0, trainable=False, dtype=tf.int32, name="leaves_to_search"
        )
        self.reorder = tf.Variable(0, trainable=False, dtype=tf.int32, name="reorder")
        self.merge_cosine = tf.Variable(NEVER, trainable=False, dtype=tf.float32, name=MERGE_COSINE)
        self.use(settings)

    def num_items(self) -> tf.Tensor:
        """See ``Search``."""
        return tf.shape(self.vectors)[0]

    def exact(self) -> ExactSearch:
        """See ``Search``."""
        return ExactSearch(self.vectors)

    def leaf_of_items(self) -> np.ndarray:
        """Returns int32 [R], the partition of each item."""
        return self._state["datapoint_to_token"].numpy().reshape(-1)

    def use(self, settings: ScannSettings) -> None:
        """Searches with ``settings`` from now on."""
        self.leaves_to_search.assign(settings.leaves_to_search)
        self.reorder.assign(settings.reorder)

    def describe(self) -> dict[str, int | float | str]:
        """See ``Search``."""
        settings: dict[str, int | float | str] = {
            ALGORITHM: SCANN_TREE if self.num_leaves else SCANN_HASHED,
            "dimensions_per_block": _DIMENSIONS_PER_BLOCK,
            "reorder": int(self.reorder.numpy()),
        }
        if self.num_leaves:
            settings["num_leaves"] = self.num_leaves
            settings["leaves_to_search"] = int(self.leaves_to_search.numpy())
        merge_cosine = float(self.merge_cosine.numpy())
        if merge_cosine != NEVER:
            settings[MERGE_COSINE] = round(merge_cosine, 4)
        return settings

    def candidates(
        self, interests: tf.Tensor, mask: tf.Tensor, depth: tf.Tensor, k: tf.Tensor
    ) -> Candidates:
        """See ``Search``; up to ``depth`` items per search, each scored with all interests."""
        leaves = tf.minimum(self._widened(self.leaves_to_search, k), max(self.num_leaves, 1))
        # Made at the first request and found by its name from then on.
        searcher = self._ops.tensors_to_scann(
            x=tf.zeros([0, self.vectors.shape[1]]) if self._has_hashes else self.vectors,
            shared_name=self._shared_name,
            **self._state,
        )
        queries = merge_interests(interests, mask, self.merge_cosine)
        rows = tf.where(queries.mask)  # [Q, 2]
        wanted = tf.gather_nd(queries.vectors, rows)  # [Q, d]
        num_queries = tf.shape(wanted)[0]
        half = (num_queries + 1) // 2
        width = tf.maximum(self._widened(self.reorder, k), depth)
        width = tf.minimum(width, tf.shape(self.vectors)[0])
        # ScaNN's own parallel search uses one thread fewer than there are cores. Two
        # searches at the same time, with half of the queries each, use all of them.
        found = tf.concat(
            [
                self._search(searcher, part, width, leaves if self.num_leaves else -1)
                for part in (wanted[:half], wanted[half:])
            ],
            axis=0,
        )  # [Q, width]
        best = self._score_exactly(found, interests, mask, rows[:, 0], depth)
        batch, num_interests = tf.unstack(tf.shape(mask))
        shape = [batch, num_interests, depth]
        positions = tf.tensor_scatter_nd_update(tf.fill(shape, -1), rows, best.positions)
        scores = tf.tensor_scatter_nd_update(tf.fill(shape, -np.inf), rows, best.scores)
        flat = [batch, num_interests * depth]
        return Candidates(tf.reshape(positions, flat), tf.reshape(scores, flat))

    def is_thorough(self, k: tf.Tensor) -> tf.Tensor:
        """See ``ApproximateSearch``."""
        return self._widened(self.leaves_to_search, k) >= self.num_leaves

    def _widened(self, setting: tf.Variable, k: tf.Tensor) -> tf.Tensor:
        """Returns int32 []: at more items than the settings were tuned for, search more."""
        widening = tf.maximum(1.0, tf.cast(k, tf.float32) / self._recall_k)
        return tf.cast(tf.math.ceil(tf.cast(setting, tf.float32) * widening), tf.int32)

    def _search(
        self, searcher: tf.Tensor, queries: tf.Tensor, width: tf.Tensor, leaves: tf.Tensor | int
    ) -> tf.Tensor:
        """Returns int32 [Q, width], what ScaNN finds for ``queries`` [Q, d]; -1 fills up."""
        found = self._ops.scann_search_batched(
            searcher,
            queries,
            final_num_neighbors=width,
            pre_reordering_num_neighbors=width,
            leaves_to_search=leaves,
            parallel=True,
        )
        if tf.inside_function():
            # A search changes no state, so TensorFlow need not run them in order.
            manager = found.indices.graph.experimental_acd_manager
            manager.run_independently(found.indices.op)
        # ScaNN fills rows that found less than others with NaN distances.
        present = tf.math.is_finite(found.distances)
        missing = [[0, 0], [0, width - tf.shape(present)[1]]]
        return tf.pad(tf.where(present, found.indices, -1), missing, constant_values=-1)

    def _score_exactly(
        self,
        positions: tf.Tensor,
        interests: tf.Tensor,
        mask: tf.Tensor,
        people: tf.Tensor,
        depth: tf.Tensor,
    ) -> Candidates:
        """Scores what was found with every active interest of the person.

        Args:
          positions: int32 [Q, W], by query; -1 is none.
          interests: float32 [B, K, d].
          mask: bool [B, K], the active interests.
          people: int64 [Q], whose query it is, as a row of ``mask``.
          depth: int32 [], at most W.

        Returns:
          The ``depth`` best of each query [Q, depth], in any order.
        """
        num_queries, width = tf.unstack(tf.shape(positions))
        inactive = tf.where(mask, 0.0, -np.inf)[:, tf.newaxis, :]  # [B, 1, K]

        def score(found: tf.Tensor, person: tf.Tensor) -> Candidates:
            # Read whole: see RetrievalBundle.
            items = tf.gather(self.vectors.read_value(), tf.maximum(found, 0))  # [n, W, d]
            scores = tf.matmul(items, tf.gather(interests, person), transpose_b=True)  # [n, W, K]
            scores = tf.reduce_max(scores + tf.gather(inactive, person), axis=2)
            # Not sorted: what ranks the candidates sorts those of all queries of a person.
            top = tf.math.top_k(tf.where(found >= 0, scores, -np.inf), depth, sorted=False)
            return Candidates(tf.gather(found, top.indices, batch_dims=1), top.values)

        block = tf.maximum(SCORES_PER_BLOCK // tf.maximum(width * self.vectors.shape[1], 1), 1)

        def score_block(start: tf.Tensor, best: Candidates) -> tuple[tf.Tensor, Candidates]:
            end = start + block
            found = score(positions[start:end], people[start:end])
            return end, Candidates(
                tf.concat([best.positions, found.positions], axis=0),
                tf.concat([best.scores, found.scores], axis=0),
            )

        def score_in_blocks() -> Candidates:
            nothing = Candidates(tf.zeros([0, depth], tf.int32), tf.zeros([0, depth]))
            _, best = tf.while_loop(
                lambda start, _: start < num_queries,
                score_block,
                (tf.constant(0), nothing),
                parallel_iterations=1,
                shape_invariants=(tf.TensorShape([]), ANY_CANDIDATES),
            )
            return best

        return tf.cond(num_queries <= block, lambda: score(positions, people), score_in_blocks)
