"""Approximate search over item vectors inside the served graph, with ScaNN."""

import dataclasses
import hashlib

import numpy as np
import tensorflow as tf

from contract.manifest import ALGORITHM, MERGE_COSINE, SCANN_HASHED, SCANN_TREE
from retrieval.interest_merging import NEVER, merge_interests
from retrieval.search import ANY_CANDIDATES, SCORES_PER_BLOCK, Candidates, ExactSearch
from retrieval.tower import blocks

# How many vectors train ScaNN's partitions and codebooks: at least this many, and at least this
# many for each partition.
_TRAINING_SAMPLE = 100_000
_SAMPLE_PER_LEAF = 30
# Two dimensions per 4-bit code is the finest quantisation that ScaNN offers. It saves each code in
# a byte, so the codes are 8x smaller than float32 vectors.
_DIMENSIONS_PER_BLOCK = 2
# The threshold of anisotropic quantisation that ScaNN's documentation recommends
# (https://github.com/google-research/google-research/blob/master/scann/docs/algorithms.md).
_ANISOTROPIC_THRESHOLD = 0.2


@dataclasses.dataclass(frozen=True)
class ScannSettings:
    """The settings that can be changed after a ScaNN index has been built.

    Attributes:
      leaves_to_search: Number of partitions that a query searches; no effect without a tree.
      reorder: Number of candidates per query whose exact scores are computed.
    """

    leaves_to_search: int
    reorder: int


def _have_one_length(vectors: tf.Variable) -> bool:
    """Returns whether all vectors [R, d] have length 1, up to rounding, as the model's do."""
    return all(
        np.allclose(np.linalg.norm(block, axis=1), 1.0, atol=1e-3) for _, block in blocks(vectors)
    )


def _defined(value: tf.Tensor) -> tf.Tensor:
    """Returns a part of an index with a defined content.

    What an index lacks, ScaNN returns as a scalar of memory that nobody has written.
    """
    is_lacking = value.shape.rank == 0 and value.dtype != tf.string
    return tf.zeros_like(value) if is_lacking else value


class ScannSearch(tf.Module):
    """Approximate search with ScaNN's TensorFlow ops.

    This class does not use ``tfrs.layers.factorized_top_k.ScaNN``, which always builds a
    tree, holds a second copy of the vectors and fixes the settings at build time, so that
    tuning would need another build for every setting.
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
          vectors: float32 [R, d]; R is at least 1.
          num_leaves: Number of partitions; with 0 the hash of every item is scored.
          settings: Initial settings; see ``use``.
          recall_k: The number of requested items for which the settings are meant; a
            request for more searches proportionally more.
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
                # ScaNN chooses leaves by the dot product of their centres with the query. If all
                # items have the same length, wide leaves have shorter centres and would be at a
                # disadvantage; spherical partitioning normalises the centres.
                spherical=_have_one_length(vectors),
            )
        # ScaNN's own reordering is not used, because it would hold a second copy of the vectors.
        builder = builder.score_ah(
            _DIMENSIONS_PER_BLOCK,
            anisotropic_quantization_threshold=_ANISOTROPIC_THRESHOLD,
            training_sample_size=_TRAINING_SAMPLE,
        )
        built = builder.build().searcher_handle
        state = scann_ops.scann_to_tensors(built)
        tf.raw_ops.DestroyResourceOp(resource=built)
        self._state = {
            name: tf.Variable(_defined(value), trainable=False, name=name)
            for name, value in state._asdict().items()
            if name != "dataset"
        }
        # With fewer items than codes, ScaNN makes no hashes and compares the vectors themselves.
        self._has_hashes = bool(self._state["hashed_dataset"].shape.rank)
        # ScaNN finds its index by this name, which is global in the process, so different indexes
        # must have different names.
        digest = hashlib.sha256(repr((num_leaves, recall_k)).encode())
        for _, value in sorted(self._state.items()):
            array = np.asarray(value.numpy())
            digest.update(b"".join(array.ravel()) if array.dtype == object else array.tobytes())
        if not self._has_hashes:
            digest.update(vectors.numpy().tobytes())
        self._shared_name = f"index-{digest.hexdigest()[:32]}"
        self.leaves_to_search = tf.Variable(
            0, trainable=False, dtype=tf.int32, name="leaves_to_search"
        )
        self.reorder = tf.Variable(0, trainable=False, dtype=tf.int32, name="reorder")
        self.merge_cosine = tf.Variable(NEVER, trainable=False, dtype=tf.float32, name=MERGE_COSINE)
        self.use(settings)

    def num_items(self) -> tf.Tensor:
        """See ``CatalogueSearch``."""
        return tf.shape(self.vectors)[0]

    def exact(self) -> ExactSearch:
        """See ``CatalogueSearch``."""
        return ExactSearch(self.vectors)

    def leaf_of_items(self) -> np.ndarray:
        """Returns int32 [R], the partition of each item; the index must have a tree."""
        return self._state["datapoint_to_token"].numpy().reshape(-1)

    def use(self, settings: ScannSettings) -> None:
        """Changes the settings."""
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
        """See ``Search``; returns up to ``depth`` items per query.

        Each item has the best of its exact scores over all active interests of the person.
        """
        leaves = tf.minimum(self._widened(self.leaves_to_search, k), max(self.num_leaves, 1))
        # The first request creates the searcher; later ones find it by its name.
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
        """Returns ``setting``, int32 [], increased in proportion if ``k`` exceeds ``recall_k``."""
        widening = tf.maximum(1.0, tf.cast(k, tf.float32) / self._recall_k)
        return tf.cast(tf.math.ceil(tf.cast(setting, tf.float32) * widening), tf.int32)

    def _search(
        self, searcher: tf.Tensor, queries: tf.Tensor, width: tf.Tensor, leaves: tf.Tensor | int
    ) -> tf.Tensor:
        """Returns int32 [Q, width], what ScaNN finds for ``queries`` [Q, d], padded with -1."""
        found = self._ops.scann_search_batched(
            searcher,
            queries,
            final_num_neighbors=width,
            pre_reordering_num_neighbors=width,
            leaves_to_search=leaves,
            parallel=True,
        )
        if tf.inside_function():
            # A search changes no state, so TensorFlow need not run searches in order.
            manager = found.indices.graph.experimental_acd_manager
            manager.run_independently(found.indices.op)
        # ScaNN pads the rows that have fewer results than others with NaN distances.
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
        """Scores the found items exactly, with every active interest of the person.

        Args:
          positions: int32 [Q, W], the items found for each query, padded with -1.
          interests: float32 [B, K, d].
          mask: bool [B, K], the active interests.
          people: int64 [Q], the person of each query, as a row of ``mask``.
          depth: int32 [], number of candidates per query, at most W.

        Returns:
          The ``depth`` best candidates of each query, [Q, depth], in any order.
        """
        num_queries, width = tf.unstack(tf.shape(positions))
        inactive = tf.where(mask, 0.0, -np.inf)[:, tf.newaxis, :]  # [B, 1, K]

        def score(found: tf.Tensor, person: tf.Tensor) -> Candidates:
            # Read the whole variable; see ``RetrievalBundle._vectors_of``.
            items = tf.gather(self.vectors.read_value(), tf.maximum(found, 0))  # [n, W, d]
            scores = tf.matmul(items, tf.gather(interests, person), transpose_b=True)  # [n, W, K]
            scores = tf.reduce_max(scores + tf.gather(inactive, person), axis=2)
            # The ranking sorts the candidates of all of a person's queries later.
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
