"""Ranks what a request's filters leave, each row by the way that suits how much that is.

- *Narrow*: the items of the lists are scored exactly (``ListSearch``). The work grows with them.
- *Broad*: the approximate search fetches more candidates the fewer items are allowed, and again
  more if too few of those are allowed, or if better ones might have been missed.
- What even the deepest of these searches cannot answer is searched exactly.

A row is answered in the same way, and with the same items, alone and in any batch: how deep the
search goes depends on the row only, and the rows that need the same depth are searched together.
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

# Depths of the approximate search: two for each doubling, so that few different ones come
# together in a batch.
_DEPTHS_PER_DOUBLING = 2
# How many times deeper the search goes if it was not deep enough: four steps of these.
_DEEPER = 2 * _DEPTHS_PER_DOUBLING
# Allowed items come by chance among the candidates. So many standard deviations more than
# are expected to be needed leave one answer in a thousand short.
_SPARE_DEVIATIONS = 3.0
# Items on which the share that a request allows is measured: at 1 %, 41 of them are allowed.
_SAMPLE = 4096


class Limits(tf.Module):
    """Up to where each way is the fastest; ``retrieval.filter_costs`` measures them.

    Before they are measured, every list is scored exactly, which is always right.

    Attributes:
      narrow: float32 [], items that are scored exactly at most while the approximate search
        could answer.
      listed: float32 [], items that are scored by their list at most if all else fails; for more
        every item of the catalogue is.
      entry_cost: float32 [], the cost of a look at an entry of a list, in items that are scored.
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
        """Filters within these limits from now on."""
        self.narrow.assign(narrow)
        self.listed.assign(listed)
        self.entry_cost.assign(entry_cost)
        self.deepest.assign(deepest)


class _Rows(NamedTuple):
    """Rows of a batch that take the same way.

    Attributes:
      request: What they ask.
      selection: What their filters leave.
    """

    request: Request
    selection: Selection


class FilteredRanking(tf.Module):
    """Ranks the allowed items of each row."""

    def __init__(self, search: Search, limits: Limits) -> None:
        """Ranks what ``search`` finds, by the ways that ``limits`` say.

        Args:
          search: Where to search.
          limits: May be changed later.
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

        Fewer than a row asks for only where fewer exist.

        Args:
          request: Rows without an active interest get nothing. ``k`` is what each row needs.
          selection: What the filters leave.
          width: int32 [], the largest ``k``.

        Returns:
          Candidates [B, width], filled up with -1 and -inf from ``k`` on.
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
        """Searches rows as deep as they need, those of equal depth together.

        Args:
          search: Where to search.
          request: See ``rank``.
          selection: See ``rank``.
          width: See ``rank``.
          depths: int32 [B], where to begin: numbers of ``depth_of``.
          is_asked: bool [B], the rows.

        Returns:
          What was found, and bool [B], the rows that the deepest search could not answer.
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
        """Ranks the chosen rows, bool [B], by ``way``; the others get nothing."""
        nothing = Candidates.none(tf.shape(chosen)[0], width)

        def ranked() -> Candidates:
            rows = tf.cast(tf.where(chosen)[:, 0], tf.int32)
            some = _Rows(_request_of(request, rows), selection.of_rows(rows))
            return _put(nothing, rows, way(some, width))

        return tf.cond(tf.reduce_any(chosen), ranked, lambda: nothing)


def depth_of(number: tf.Tensor) -> tf.Tensor:
    """Returns int32, the depth of a number: it doubles with every two."""
    exponent = tf.cast(number, tf.float32) / _DEPTHS_PER_DOUBLING
    return tf.cast(tf.math.ceil(tf.pow(2.0, tf.minimum(exponent, 30.0))), tf.int32)


def first_depths(needed: tf.Tensor, num_allowed: tf.Tensor, num_items: tf.Tensor) -> tf.Tensor:
    """Returns int32 [B], the numbers of the depths that should do.

    Args:
      needed: int32 [B], allowed items that must be found, exclusions included.
      num_allowed: float32 [B], see ``Selection.num_allowed``.
      num_items: int32 [], R.
    """
    share = tf.maximum(num_allowed, 1.0) / tf.cast(num_items, tf.float32)
    expected = tf.cast(needed, tf.float32)
    # Where everything is allowed, chance takes no part.
    deviation = tf.sqrt(expected * (1.0 - tf.minimum(share, 1.0)))
    depth = (expected + _SPARE_DEVIATIONS * deviation) / share
    doublings = tf.math.log(depth) / np.log(2.0)
    return tf.cast(tf.math.ceil(doublings * _DEPTHS_PER_DOUBLING), tf.int32)


def _at_depth(
    search: ApproximateSearch, rows: _Rows, width: tf.Tensor, depth: tf.Tensor
) -> tuple[Candidates, tf.Tensor]:
    """Searches at one depth; also returns bool [n], whose answers are complete."""
    interests, mask, excluded, k = rows.request
    fetched = tf.minimum(depth, rows.selection.num_items)
    found = search.candidates(interests, mask, fetched, depth)
    # Every allowed item that scores more than the last of each interest's candidates is
    # among them, as far as the search is to be trusted.
    by_interest = tf.reshape(found.scores, [tf.shape(mask)[0], -1, fetched])
    last = tf.reduce_max(tf.reduce_min(by_interest, axis=2), axis=1)  # [n]
    best = best_distinct(drop_forbidden(found, rows.selection), excluded, width)
    slot = tf.range(width)[tf.newaxis, :]
    is_wanted = slot < k[:, tf.newaxis]
    worst = tf.reduce_min(tf.where(is_wanted, best.scores, np.inf), axis=1)  # [n]
    is_complete = (worst > -np.inf) & (worst >= last)
    # It is to be trusted for so many items as it was told would be shown.
    num_better = tf.math.count_nonzero(found.scores >= worst[:, tf.newaxis], axis=1, dtype=tf.int32)
    is_trusted = search.is_thorough(depth) | (num_better <= depth)
    return best, is_complete & is_trusted


def _request_of(request: Request, rows: tf.Tensor) -> Request:
    return Request(*(tf.gather(part, rows) for part in request))


def _put(into: Candidates, rows: tf.Tensor, found: Candidates) -> Candidates:
    """Puts what was found into rows, int32 [n]."""
    return Candidates(
        *(
            tf.tensor_scatter_nd_update(old, rows[:, tf.newaxis], new)
            for old, new in zip(into, found, strict=True)
        )
    )


def _filled(first: Candidates, second: Candidates) -> Candidates:
    """Puts together what was found for different rows."""
    return Candidates(
        tf.maximum(first.positions, second.positions), tf.maximum(first.scores, second.scores)
    )
