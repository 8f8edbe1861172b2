"""Ranks the items that a request's filters allow.

The method for a row depends on how many items its filters allow:

- *Narrow* filters: the allowed items are listed and scored exactly (``ListSearch``). The work
  grows with the length of the lists.
- *Broad* filters: the approximate search fetches the more candidates, the fewer items are allowed.
  It searches deeper if too few of the candidates are allowed, or if it may have missed better ones.
- A row that even the deepest of these searches cannot answer is searched exactly.

A row gets the same items whether it is alone or in a batch, because the depth of its search depends
on that row only. Rows that need the same depth are searched together.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from retrieval.filters import AllowedSearch, Selection, drop_forbidden
from retrieval.list_search import ListSearch
from retrieval.ranking import best_distinct, count_distinct, rank_once
from retrieval.requests import Request
from retrieval.search import ANY_CANDIDATES, ApproximateSearch, Candidates, ExactSearch, Search

# The approximate search uses two depths for each doubling. With so few depths, many rows of a batch
# can share one search.
_DEPTHS_PER_DOUBLING = 2
# A search that was not deep enough is repeated this many steps, two doublings, deeper.
_DEEPER = 2 * _DEPTHS_PER_DOUBLING
# The number of allowed items among the candidates varies by chance. With this many standard
# deviations of spare candidates, about one answer in a thousand has too few items.
_SPARE_DEVIATIONS = 3.0
# The share of items that a request allows is estimated on this many items: if it is 1 %, about 41
# of them are allowed.
_SAMPLE = 4096


class Limits(tf.Module):
    """The limits between the methods; ``retrieval.filter_costs`` derives them from measured times.

    Until they are set, every list is scored exactly. That may be slow, but the answer is correct.

    Attributes:
      narrow: float32 [], the largest work, in scored items, for which a list is scored exactly
        although the approximate search could answer.
      listed: float32 [], the largest work, in scored items, for which a list is scored exactly
        after the approximate search has failed. Above it, every item of the catalogue is scored.
      entry_cost: float32 [], the cost of checking one entry of a list, in scored items.
      deepest: int32 [], the largest depth of the approximate search.
    """

    def __init__(self, num_items: int) -> None:
        """Sets the limits for a catalogue of ``num_items``."""
        super().__init__(name="filter_limits")
        everything = np.float32(np.inf)
        self.narrow = tf.Variable(everything, trainable=False, name="narrow")
        self.listed = tf.Variable(everything, trainable=False, name="listed")
        self.entry_cost = tf.Variable(np.float32(0.0), trainable=False, name="entry_cost")
        self.deepest = tf.Variable(num_items, trainable=False, dtype=tf.int32, name="deepest")

    def use(self, narrow: float, listed: float, entry_cost: float, deepest: int) -> None:
        """Sets the limits."""
        self.narrow.assign(narrow)
        self.listed.assign(listed)
        self.entry_cost.assign(entry_cost)
        self.deepest.assign(deepest)


class _Rows(NamedTuple):
    """Rows of a batch that are searched in the same way.

    Attributes:
      request: What the rows ask for.
      selection: The items that their filters allow.
    """

    request: Request
    selection: Selection


class FilteredRanking(tf.Module):
    """Ranks the allowed items of each row."""

    def __init__(self, search: Search, limits: Limits) -> None:
        """Makes a ranking that uses ``search``.

        Args:
          search: The search over all items.
          limits: The limits between the methods; they may be changed later.
        """
        super().__init__(name="filtered_ranking")
        self._search = search
        self._limits = limits
        self._exact = ExactSearch(search.vectors)
        num_items = int(tf.shape(search.vectors)[0])
        sample = np.random.default_rng(0).permutation(num_items)[:_SAMPLE]
        self._sample = tf.Variable(np.sort(sample).astype(np.int32), trainable=False, name="sample")

    def rank(self, request: Request, selection: Selection, width: tf.Tensor) -> Candidates:
        """Returns the best allowed items of each row, best first.

        A row gets fewer items than it asks for only if no more exist.

        Args:
          request: What each row asks for. Rows without an active interest get nothing.
          selection: The items that the filters allow.
          width: int32 [], the largest ``k``.

        Returns:
          Candidates [B, width], padded with -1 and -inf from ``k`` on.
        """
        limits = self._limits
        needed = request.k + count_distinct(request.excluded)
        num_allowed = selection.num_allowed(self._sample)
        work = num_allowed + limits.entry_cost * selection.num_looked_at()
        is_asked = tf.reduce_any(request.mask, axis=1)
        is_broad = is_left = is_asked & (work > limits.narrow)
        found = Candidates.none(tf.shape(work)[0], width)
        if isinstance(self._search, ApproximateSearch):
            depths = first_depths(needed, num_allowed, selection.num_items)
            found, is_left = self._approximately(
                self._search, request, selection, width, depths, is_broad
            )
        is_listed = is_asked & (~is_broad | (is_left & (work <= limits.listed)))
        for rows, way in (
            (is_listed, self._by_lists),
            (is_left & ~is_listed, self._by_everything),
        ):
            found = _filled(found, self._on_rows(rows, request, selection, width, way))
        is_wanted = tf.range(width) < request.k[:, tf.newaxis]
        return Candidates(
            tf.where(is_wanted, found.positions, -1), tf.where(is_wanted, found.scores, -np.inf)
        )

    def _by_lists(self, rows: _Rows, width: tf.Tensor) -> Candidates:
        search = ListSearch(self._search.vectors, rows.selection)
        return rank_once(search, *rows.request[:3], width)

    def _by_everything(self, rows: _Rows, width: tf.Tensor) -> Candidates:
        search = AllowedSearch(self._exact, rows.selection)
        return rank_once(search, *rows.request[:3], width)

    def _approximately(
        self,
        search: ApproximateSearch,
        request: Request,
        selection: Selection,
        width: tf.Tensor,
        depths: tf.Tensor,
        is_asked: tf.Tensor,
    ) -> tuple[Candidates, tf.Tensor]:
        """Searches each row as deep as it needs; rows of equal depth share one search.

        Args:
          search: The approximate search.
          request: See ``rank``.
          selection: See ``rank``.
          width: See ``rank``.
          depths: int32 [B], the number of each row's first depth; see ``depth_of``.
          is_asked: bool [B], the rows to search.

        Returns:
          The candidates, and bool [B], the rows that the deepest search could not answer.
        """
        deepest = self._limits.deepest

        def is_open(depths: tf.Tensor, is_left: tf.Tensor) -> tf.Tensor:
            return is_left & (depth_of(depths) <= deepest)

        def search_depth(
            depths: tf.Tensor, is_left: tf.Tensor, found: Candidates
        ) -> tuple[tf.Tensor, tf.Tensor, Candidates]:
            open_rows = is_open(depths, is_left)
            now = tf.reduce_min(tf.where(open_rows, depths, tf.int32.max))
            rows = tf.cast(tf.where(open_rows & (depths == now))[:, 0], tf.int32)
            some = _Rows(_request_of(request, rows), selection.of_rows(rows))
            best, is_enough = _at_depth(search, some, width, depth_of(now))
            done = tf.boolean_mask(rows, is_enough)
            is_left = tf.tensor_scatter_nd_update(
                is_left, done[:, tf.newaxis], tf.fill(tf.shape(done), False)
            )
            depths = tf.where(depths == now, now + _DEEPER, depths)
            kept = Candidates(*(tf.boolean_mask(part, is_enough) for part in best))
            return depths, is_left, _put(found, done, kept)

        nothing = Candidates.none(tf.shape(depths)[0], width)
        _, is_left, found = tf.while_loop(
            lambda depths, is_left, _: tf.reduce_any(is_open(depths, is_left)),
            search_depth,
            (depths, is_asked, nothing),
            parallel_iterations=1,
            shape_invariants=(
                tf.TensorShape([None]),
                tf.TensorShape([None]),
                ANY_CANDIDATES,
            ),
        )
        return found, is_left

    def _on_rows(
        self,
        chosen: tf.Tensor,
        request: Request,
        selection: Selection,
        width: tf.Tensor,
        way: Callable[[_Rows, tf.Tensor], Candidates],
    ) -> Candidates:
        """Ranks the chosen rows, bool [B], with ``way``; the other rows get nothing."""
        nothing = Candidates.none(tf.shape(chosen)[0], width)

        def ranked() -> Candidates:
            rows = tf.cast(tf.where(chosen)[:, 0], tf.int32)
            some = _Rows(_request_of(request, rows), selection.of_rows(rows))
            return _put(nothing, rows, way(some, width))

        return tf.cond(tf.reduce_any(chosen), ranked, lambda: nothing)


def depth_of(number: tf.Tensor) -> tf.Tensor:
    """Returns the depth with this number, int32; the depth doubles with every second number."""
    exponent = tf.cast(number, tf.float32) / _DEPTHS_PER_DOUBLING
    return tf.cast(tf.math.ceil(tf.pow(2.0, tf.minimum(exponent, 30.0))), tf.int32)


def first_depths(needed: tf.Tensor, num_allowed: tf.Tensor, num_items: tf.Tensor) -> tf.Tensor:
    """Returns int32 [B], the number of the first depth that should suffice for each row.

    Args:
      needed: int32 [B], how many allowed items must be found, including excluded ones.
      num_allowed: float32 [B], see ``Selection.num_allowed``.
      num_items: int32 [], number of items in the index, R.
    """
    share = tf.maximum(num_allowed, 1.0) / tf.cast(num_items, tf.float32)
    expected = tf.cast(needed, tf.float32)
    # Where every item is allowed, the deviation is 0.
    deviation = tf.sqrt(expected * (1.0 - tf.minimum(share, 1.0)))
    depth = (expected + _SPARE_DEVIATIONS * deviation) / share
    doublings = tf.math.log(depth) / np.log(2.0)
    return tf.cast(tf.math.ceil(doublings * _DEPTHS_PER_DOUBLING), tf.int32)


def _at_depth(
    search: ApproximateSearch, rows: _Rows, width: tf.Tensor, depth: tf.Tensor
) -> tuple[Candidates, tf.Tensor]:
    """Searches at one depth; also returns bool [n], the rows whose answers are complete."""
    interests, mask, excluded, k = rows.request
    fetched = tf.minimum(depth, rows.selection.num_items)
    found = search.candidates(interests, mask, fetched, depth)
    # Unless the approximate search missed some, the candidates contain every allowed item that
    # scores higher than the last candidate of each interest.
    by_interest = tf.reshape(found.scores, [tf.shape(mask)[0], -1, fetched])
    last = tf.reduce_max(tf.reduce_min(by_interest, axis=2), axis=1)  # [n]
    best = best_distinct(drop_forbidden(found, rows.selection), excluded, width)
    slot = tf.range(width)[tf.newaxis, :]
    is_wanted = slot < k[:, tf.newaxis]
    worst = tf.reduce_min(tf.where(is_wanted, best.scores, np.inf), axis=1)  # [n]
    is_complete = (worst > -np.inf) & (worst >= last)
    # The search was widened for ``depth`` shown items, so its recall holds for that many.
    num_better = tf.math.count_nonzero(found.scores >= worst[:, tf.newaxis], axis=1, dtype=tf.int32)
    is_trusted = search.is_thorough(depth) | (num_better <= depth)
    return best, is_complete & is_trusted


def _request_of(request: Request, rows: tf.Tensor) -> Request:
    return Request(*(tf.gather(part, rows) for part in request))


def _put(into: Candidates, rows: tf.Tensor, found: Candidates) -> Candidates:
    """Returns ``into`` with ``found`` written to ``rows``, int32 [n]."""
    return Candidates(
        *(
            tf.tensor_scatter_nd_update(old, rows[:, tf.newaxis], new)
            for old, new in zip(into, found, strict=True)
        )
    )


def _filled(first: Candidates, second: Candidates) -> Candidates:
    """Combines two results; each row has candidates in at most one of them."""
    return Candidates(
        tf.maximum(first.positions, second.positions), tf.maximum(first.scores, second.scores)
    )
