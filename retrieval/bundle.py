"""The bundle that is pushed: vocabulary, user tower and index with their signatures."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from contract.features import HISTORY, HISTORY_TIME, USER_PREFIX
from model.categories import NO_CATEGORY
from retrieval.category_ranking import CategoryRanking, Request, Wishes
from retrieval.config import IndexConfig
from retrieval.ranking import best_distinct, count_distinct, rank
from retrieval.search import Candidates, Search
from retrieval.vocabulary import VocabularyInitializer

# What stands in the place of an item where fewer than k exist.
PADDING_ID = ""
NO_INTEREST = -1

_STRINGS = tf.TensorSpec([None], tf.string)
_SCALAR = tf.TensorSpec([], tf.int32)


def retrievable_items(tower: Any) -> np.ndarray:
    """Returns int32 [R]: rows of the items that have a vector.

    An item never trained that has no side features has the zero vector: it
    would outrank every item of negative score.

    Raises:
      ValueError: if no item has one.
    """
    rows = np.flatnonzero(np.any(tower.item_vectors.numpy() != 0.0, axis=1)).astype(np.int32)
    if not rows.size:
        raise ValueError(
            f"None of the model's {len(tower.item_vectors.numpy())} items has a vector other than "
            "zero; expected at least one trained item. Check the Trainer's item_vectors."
        )
    return rows


def retrievable_vectors(tower: Any, rows: np.ndarray) -> tf.Variable:
    """Returns float32 [R, d], the vectors of ``rows``; the tower's own if it is all of them."""
    vectors = tower.item_vectors.numpy()
    if rows.size == len(vectors):
        return tower.item_vectors
    vectors = vectors[rows]
    return tf.Variable(vectors, trainable=False, name="retrievable_vectors")


def person_inputs(tower: Any) -> tuple[str, ...]:
    """Returns the tower's inputs about a person beside the items, as in the signatures.

    These are profile features, and ``history_time`` if the model reads times.
    """
    _, inputs = tower.signatures["user_interests"].structured_input_signature
    return tuple(
        sorted(name for name in inputs if name.startswith(USER_PREFIX) or name == HISTORY_TIME)
    )


def knows_person(owned: tf.Tensor, history_index: tf.Tensor) -> tf.Tensor:
    """Returns bool [B]: who has a history that interests can be formed of.

    Args:
      owned: int32 [B, T], positions of the history; -1 for what cannot be found.
      history_index: int32 [B, T'], the items that the tower knows; 0 is padding.
        It does not know those that were added after its training.
    """
    return tf.reduce_any(owned >= 0, axis=1) & tf.reduce_any(history_index > 0, axis=1)


class RetrievalBundle(tf.Module):
    """From raw histories to raw item ids, all in one graph."""

    def __init__(self, tower: Any, rows: np.ndarray, search: Search, config: IndexConfig) -> None:
        """Puts the parts together.

        Args:
          tower: The Trainer's loaded SavedModel.
          rows: int32 [R], the items that can be found (``retrievable_items``).
          search: Searches the vectors of ``rows``.
          config: Defaults and limits of requests.
        """
        super().__init__(name="retrieval")
        self.tower = tower
        self.search = search
        self._config = config
        self._person_inputs = person_inputs(tower)
        self.vocabulary = tf.lookup.StaticHashTable(VocabularyInitializer(tower.item_ids), -1)
        num_items = len(tower.item_ids.numpy())
        positions = np.full([num_items], -1, np.int32)
        positions[rows] = np.arange(rows.size, dtype=np.int32)
        # Row of the vocabulary <-> position among the items that can be found.
        self._rows = tf.Variable(rows, trainable=False, name="rows")
        self._positions = tf.Variable(positions, trainable=False, name="positions")
        counts = tower.train_counts.numpy()[rows]
        by_count = np.argsort(-counts, kind="stable").astype(np.int32)
        self._popular = tf.Variable(by_count, trainable=False, name="popular")
        self._counts = tf.Variable(counts.astype(np.float32), trainable=False, name="counts")
        self._categories = (
            CategoryRanking(tower, rows, search, counts, config.over_fetch)
            if hasattr(tower, "item_categories")
            else None
        )

    def _vectors_of(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns float32 [..., d], the vectors at ``positions``."""
        # Not tf.gather on the variable itself: its sparse read turns every
        # later whole read, such as a search, into a copy of the variable.
        return tf.gather(self.search.vectors.read_value(), tf.maximum(positions, 0))

    def to_positions(self, ids: tf.Tensor) -> tf.Tensor:
        """Maps string ids to int32 positions; -1 for what cannot be found."""
        rows = self.vocabulary.lookup(ids)
        return tf.where(rows >= 0, tf.gather(self._positions, tf.maximum(rows, 0)), -1)

    def popular(self, excluded: tf.Tensor, k: tf.Tensor) -> Candidates:
        """Returns the ``k`` most frequent items of train, scored by their count."""
        num_excluded = tf.reduce_max(tf.pad(count_distinct(excluded), [[0, 1]]))
        positions = self._popular[: k + num_excluded]
        shape = tf.concat([tf.shape(excluded)[:1], tf.shape(positions)], axis=0)
        candidates = Candidates(
            tf.broadcast_to(positions, shape),
            tf.broadcast_to(tf.gather(self._counts, positions), shape),
        )
        return best_distinct(candidates, excluded, k)

    def recommend(
        self,
        history: tf.Tensor,
        k: tf.Tensor,
        exclude: tf.Tensor,
        exclude_history: tf.Tensor,
        person: dict[str, tf.Tensor],
        wishes: Wishes | None = None,
    ) -> dict[str, tf.Tensor]:
        """Recommends items; the body of ``serving_default``.

        Args:
          history: string [B, T], oldest first; "" is padding, unknown ids are
            ignored.
          k: int32, scalar or [B], from 1 to ``max_k``.
          exclude: string [B, E] or [1, E], ids never returned; "" is none.
          exclude_history: bool, scalar or [B].
          person: string [B] or [1] by name of the profile feature; "" is unknown.
            ``history_time``, if the tower reads it: int64 [B, T]; 0 is unknown,
            of any shape if nothing is known.
          wishes: Diversity (scalar or [B]) and category lists ([B, C] or
            [1, C]); only where the items have categories.

        Returns:
          ``item_ids`` string [B, k], ``scores`` float32 [B, k] and
          ``interest_index`` int32 [B, k], best first (diversified: in the order
          of choice); and ``num_known`` int32 [B], how many ids of the history the
          tower knows. Rows with fewer items (or
          with a smaller k than others) end in ("", 0, -1). People without a
          known item get the most popular ones: the score is the count in train
          and the interest -1.
        """
        batch = tf.shape(history)[0]
        k, width = self._checked_k(k, batch)
        person = {
            name: self._times_of(values, history)
            if name == HISTORY_TIME
            else self._rows_of(values, batch)
            for name, values in person.items()
        }
        # One column of padding: a row without any history is valid too.
        history = tf.pad(history, [[0, 0], [0, 1]], constant_values=PADDING_ID)
        owned = self.to_positions(history)
        excludes_history = tf.broadcast_to(tf.reshape(exclude_history, [-1]), [batch])
        excluded = tf.concat(
            [
                tf.where(excludes_history[:, tf.newaxis], owned, -1),
                self._rows_of(self.to_positions(exclude), batch),
            ],
            axis=1,
        )
        user = self.tower.user_interests(history, person)
        is_cold = ~knows_person(owned, user["history_index"])
        mask = user["interest_mask"] & ~is_cold[:, tf.newaxis]
        request = Request(user["interests"], mask, excluded, k)
        found = self._find(request, width, wishes)
        positions = found.positions
        positions = tf.where(tf.range(width) < k[:, tf.newaxis], positions, -1)
        vectors = self._vectors_of(positions)  # [B, k, d]
        by_interest = tf.matmul(vectors, user["interests"], transpose_b=True)  # [B, k, K]
        by_interest = tf.where(mask[:, tf.newaxis, :], by_interest, -np.inf)
        interest = tf.argmax(by_interest, axis=-1, output_type=tf.int32)
        return {
            "item_ids": self._ids(positions),
            "scores": tf.where(positions >= 0, found.scores, 0.0),
            "interest_index": tf.where(
                (positions >= 0) & ~is_cold[:, tf.newaxis], interest, NO_INTEREST
            ),
            "num_known": tf.math.count_nonzero(user["history_index"], axis=1, dtype=tf.int32),
        }

    def _find(self, request: Request, width: tf.Tensor, wishes: Wishes | None) -> Candidates:
        """Returns candidates [B, width], the largest k of the request."""

        def without_wishes() -> Candidates:
            interests, mask, excluded, _ = request
            people = rank(self.search, interests, mask, excluded, width)
            is_cold = request.is_cold[:, tf.newaxis]
            popular = tf.cond(
                tf.reduce_any(is_cold), lambda: self.popular(excluded, width), lambda: people
            )
            return Candidates(
                tf.where(is_cold, popular.positions, people.positions),
                tf.where(is_cold, popular.scores, people.scores),
            )

        if wishes is None or self._categories is None:
            return without_wishes()
        checked = self._checked_wishes(wishes, tf.shape(request.k)[0])
        ranking = self._categories
        return tf.cond(checked.are_any(), lambda: ranking.rank(request, checked), without_wishes)

    def similar_items(self, items: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns each item's ``k`` nearest others by dot product of item vectors.

        Args:
          items: string [B]; an unknown one has no neighbours.
          k: int32, scalar or [B].

        Returns:
          ``item_ids`` string [B, k] and ``scores`` float32 [B, k], padded as in
          ``recommend``.
        """
        k, width = self._checked_k(k, tf.shape(items)[0])
        own = self.to_positions(items)[:, tf.newaxis]  # [B, 1]
        vectors = self._vectors_of(own)  # [B, 1, d]
        found = rank(self.search, vectors, own >= 0, own, width)
        positions = tf.where(tf.range(width) < k[:, tf.newaxis], found.positions, -1)
        return {
            "item_ids": self._ids(positions),
            "scores": tf.where(positions >= 0, found.scores, 0.0),
        }

    def item_embeddings(self, items: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns ``vectors`` float32 [M, d] (zeros if unknown) and ``known`` bool [M]."""
        rows = self.vocabulary.lookup(items)
        known = rows >= 0
        vectors = tf.gather(self.tower.item_vectors.read_value(), tf.maximum(rows, 0))
        return {"vectors": tf.where(known[:, tf.newaxis], vectors, 0.0), "known": known}

    def item_titles(self, items: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns ``titles`` string [M] ("" if there is none) and ``known`` bool [M]."""
        rows = self.vocabulary.lookup(items)
        titles = tf.gather(self.tower.item_titles, tf.maximum(rows, 0))
        return {"titles": tf.where(rows >= 0, titles, ""), "known": rows >= 0}

    def item_categories(self, items: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns ``categories`` string [M, F], padded with "", and ``known`` bool [M]."""
        rows = self.vocabulary.lookup(items)
        numbers = tf.gather(self.tower.item_categories, tf.maximum(rows, 0))  # [M, F]
        numbers = tf.where(rows[:, tf.newaxis] >= 0, numbers, NO_CATEGORY)
        names = tf.concat([[PADDING_ID], self.tower.categories], axis=0)
        return {"categories": tf.gather(names, numbers), "known": rows >= 0}

    def list_categories(self, limit: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the ``limit`` (int32 []) categories of most items, the largest first.

        Returns:
          ``categories`` string [L] and ``item_counts`` int32 [L].
        """
        numbers = tf.reshape(self.tower.item_categories, [-1])
        counts = tf.math.bincount(numbers, minlength=1 + tf.size(self.tower.categories))[1:]
        top = tf.math.top_k(counts, tf.clip_by_value(limit, 0, tf.size(counts)))
        return {
            "categories": tf.gather(self.tower.categories, top.indices),
            "item_counts": top.values,
        }

    def list_items(self, offset: tf.Tensor, limit: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns a part of the catalogue in vocabulary order, most frequent items first.

        Args:
          offset: int32 [], items to pass over.
          limit: int32 [], items wanted; fewer come at the end.

        Returns:
          ``item_ids`` and ``titles`` string [L], ``train_counts`` int64 [L].
        """
        num_items = tf.size(self.tower.item_ids)
        first = tf.clip_by_value(offset, 0, num_items)
        rows = tf.range(first, first + tf.clip_by_value(limit, 0, num_items - first))
        return {
            "item_ids": tf.gather(self.tower.item_ids, rows),
            "titles": tf.gather(self.tower.item_titles, rows),
            "train_counts": tf.gather(self.tower.train_counts, rows),
        }

    def signatures(self) -> dict[str, Any]:
        """Returns what the bundle serves, by name; see docs/serving.md."""
        config = self._config
        default_k = tf.constant(config.default_k, tf.int32)
        excludes = tf.constant(config.exclude_history)
        nothing = tf.constant([[PADDING_ID]])
        histories = tf.TensorSpec([None, None], tf.string)
        # Of any rank: a scalar for the whole request, or one value per row, as
        # TF Serving's row format and its batching need it.
        per_row = (tf.TensorSpec(None, tf.int32), default_k)
        person_inputs = {
            name: (tf.TensorSpec([None, None], tf.int64), tf.constant([[0]], tf.int64))
            if name == HISTORY_TIME
            else (_STRINGS, tf.constant([PADDING_ID]))
            for name in self._person_inputs
        }

        # Only where items have categories: TF Serving's REST API wants every
        # input, and one without effect would be one more to send.
        category_inputs: dict[str, tuple[tf.TensorSpec, tf.Tensor]] = {}
        category_signatures: dict[str, Any] = {}
        if self._categories is not None:
            category_signatures = {
                "item_categories": signature(self.item_categories, {"items": (_STRINGS, None)}),
                "list_categories": signature(
                    self.list_categories, {"limit": (_SCALAR, tf.constant(1000))}
                ),
            }
            category_inputs = {
                "diversity": (tf.TensorSpec(None, tf.float32), tf.constant(0.0)),
                "allow_categories": (histories, nothing),
                "deny_categories": (histories, nothing),
            }

        def serve(
            history: tf.Tensor,
            k: tf.Tensor,
            exclude: tf.Tensor,
            exclude_history: tf.Tensor,
            diversity: tf.Tensor | None = None,
            allow_categories: tf.Tensor | None = None,
            deny_categories: tf.Tensor | None = None,
            **person: tf.Tensor,
        ) -> dict[str, tf.Tensor]:
            wishes = (
                None if diversity is None else Wishes(diversity, allow_categories, deny_categories)
            )
            return self.recommend(history, k, exclude, exclude_history, person, wishes)

        def serve_history(history: tf.Tensor) -> dict[str, tf.Tensor]:
            unknown = {name: default for name, (_, default) in person_inputs.items()}
            return self.recommend(history, default_k, nothing, excludes, unknown)

        return {
            "serving_default": signature(
                serve,
                {
                    HISTORY: (histories, None),
                    "k": per_row,
                    "exclude": (histories, nothing),
                    "exclude_history": (tf.TensorSpec(None, tf.bool), excludes),
                    **category_inputs,
                    **person_inputs,
                },
            ),
            # TF Serving's REST API wants every input of a signature, default or
            # not: this one has the history only.
            "recommend": signature(serve_history, {HISTORY: (histories, None)}),
            "similar_items": signature(
                self.similar_items, {"items": (_STRINGS, None), "k": per_row}
            ),
            "item_embeddings": signature(self.item_embeddings, {"items": (_STRINGS, None)}),
            "item_titles": signature(self.item_titles, {"items": (_STRINGS, None)}),
            "list_items": signature(
                self.list_items,
                {"offset": (_SCALAR, tf.constant(0)), "limit": (_SCALAR, tf.constant(1000))},
            ),
            **category_signatures,
            # The tower's own: `evaluate` is what the next run's Evaluator
            # compares its candidate with.
            **{
                name: self.tower.signatures[name]
                for name in ("user_interests", "evaluate")
                if name in self.tower.signatures
            },
        }

    def _checked_k(self, k: tf.Tensor, batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns k per row [B] and the largest of them; refuses what is out of range."""
        k = tf.reshape(k, [-1])
        limit = self._config.max_k
        message = f"k must be from 1 to {limit} (the index's max_k)"
        with tf.control_dependencies(
            [
                tf.debugging.assert_greater_equal(k, 1, message),
                tf.debugging.assert_less_equal(k, limit, message),
            ]
        ):
            k = tf.identity(k)
        return self._by_row("k", k, batch), tf.reduce_max(k)

    def _checked_wishes(self, wishes: Wishes, batch: tf.Tensor) -> Wishes:
        """Returns ``wishes`` with one row per person; refuses what is out of range."""
        diversity = tf.reshape(wishes.diversity, [-1])
        message = "diversity must be from 0 to 1"
        with tf.control_dependencies(
            [
                tf.debugging.assert_greater_equal(diversity, 0.0, message),
                tf.debugging.assert_less_equal(diversity, 1.0, message),
            ]
        ):
            diversity = tf.identity(diversity)
        return Wishes(
            self._by_row("diversity", diversity, batch),
            self._rows_of(wishes.allow, batch),
            self._rows_of(wishes.deny, batch),
        )

    def _by_row(self, name: str, values: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        """Returns one value per row, [B], of one for all or one for each."""
        size = tf.size(values)
        fits = tf.debugging.Assert(
            (size == 1) | (size == batch),
            [
                f"{name} must be one value, or one per row of {HISTORY}:",
                batch,
                "rows, values:",
                size,
            ],
        )
        with tf.control_dependencies([fits]):
            return tf.broadcast_to(values, [batch])

    def _times_of(self, times: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
        """Returns int64 [B, T + 1], as the padded history; zeros alone may have any shape."""
        shape = tf.shape(history)
        is_unknown = tf.reduce_all(times == 0)
        fits = tf.debugging.Assert(
            is_unknown | tf.reduce_all(tf.shape(times) == shape),
            [f"{HISTORY_TIME} must have the shape of {HISTORY}:", shape, "got:", tf.shape(times)],
        )
        with tf.control_dependencies([fits]):
            times = tf.cond(is_unknown, lambda: tf.zeros(shape, tf.int64), lambda: times)
            return tf.pad(times, [[0, 0], [0, 1]])

    def _rows_of(self, values: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        """Repeats a single row, as the defaults are, for every row of the batch."""
        return tf.broadcast_to(values, tf.concat([[batch], tf.shape(values)[1:]], axis=0))

    def _ids(self, positions: tf.Tensor) -> tf.Tensor:
        rows = tf.gather(self._rows, tf.maximum(positions, 0))
        return tf.where(positions >= 0, tf.gather(self.tower.item_ids, rows), PADDING_ID)


def signature(
    function: Callable[..., dict[str, tf.Tensor]],
    inputs: dict[str, tuple[tf.TensorSpec, tf.Tensor | None]],
) -> Any:
    """Makes a tf.function with named inputs, some of them with defaults.

    TensorFlow writes the defaults into the SignatureDef, from where TF Serving
    (gRPC) fills in what a request leaves out.

    Args:
      function: Called with the inputs by name.
      inputs: Spec and default by input name; those without a default first.
    """
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if default is None else default,
        )
        for name, (_, default) in inputs.items()
    ]

    def call(*args: tf.Tensor, **kwargs: tf.Tensor) -> dict[str, tf.Tensor]:
        return function(**call.__signature__.bind(*args, **kwargs).arguments)  # type: ignore[attr-defined]

    # The names of the profile inputs are known at run time only.
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name) for name, (spec, _) in inputs.items()]
    return tf.function(call, input_signature=specs)
