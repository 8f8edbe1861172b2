"""The signatures that a bundle serves; docs/serving.md describes them."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from contract import signatures as names
from contract.features import HISTORY, HISTORY_TIME
from retrieval.bundle import RetrievalBundle
from retrieval.category_ranking import filter_inputs
from retrieval.requests import CategoryOptions

# The spec and the default of an input; None means that there is no default.
_Input = tuple[tf.TensorSpec, tf.Tensor | None]

_STRINGS = tf.TensorSpec([None], tf.string)
_STRING_LISTS = tf.TensorSpec([None, None], tf.string)
_SCALAR = tf.TensorSpec([], tf.int32)
_ITEMS: dict[str, _Input] = {names.ITEMS: (_STRINGS, None)}
_LIMIT: _Input = (_SCALAR, tf.constant(names.DEFAULT_LIMIT))


def bundle_signatures(bundle: RetrievalBundle) -> dict[str, Any]:
    """Returns the signatures that ``bundle`` serves, by name."""
    signatures = {
        names.SERVE: _serve(bundle),
        names.RECOMMEND: _recommend(bundle),
        names.SIMILAR_ITEMS: signature(bundle.similar_items, {**_ITEMS, names.K: _k(bundle)}),
        names.ITEM_EMBEDDINGS: signature(bundle.items.embeddings, _ITEMS),
        names.ITEM_TITLES: signature(bundle.items.titles, _ITEMS),
        names.LIST_ITEMS: signature(
            bundle.items.list_items,
            {names.OFFSET: (_SCALAR, tf.constant(0)), names.LIMIT: _LIMIT},
        ),
    }
    if bundle.categories is not None:
        signatures[names.ITEM_CATEGORIES] = signature(bundle.categories.of_items, _ITEMS)
        signatures[names.LIST_CATEGORIES] = signature(
            bundle.categories.list_categories, {names.LIMIT: _LIMIT}
        )
    # Signatures of the tower. The Evaluator of the next run calls `evaluate` to compare its model
    # with this one.
    for name in (names.USER_INTERESTS, names.EVALUATE):
        if name in bundle.tower.signatures:
            signatures[name] = bundle.tower.signatures[name]
    return signatures


def _serve(bundle: RetrievalBundle) -> Any:
    """Returns the signature that takes every option of a request."""
    no_list = tf.constant([[names.PADDING]])
    filters = _filter_specs(bundle)

    def serve(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        categories = CategoryOptions(
            inputs.get(names.DIVERSITY, tf.constant(names.DEFAULT_DIVERSITY)),
            inputs.get(names.ALLOW_CATEGORIES, no_list),
            inputs.get(names.DENY_CATEGORIES, no_list),
            {name: inputs[name] for name in filters},
        )
        return bundle.recommend(
            inputs[HISTORY],
            inputs[names.K],
            inputs[names.EXCLUDE],
            inputs[names.EXCLUDE_HISTORY],
            {name: inputs[name] for name in bundle.person_inputs},
            categories,
        )

    excludes = (tf.TensorSpec(None, tf.bool), tf.constant(bundle.config.exclude_history))
    specs = {names.EXCLUDE: _STRING_LISTS}
    if bundle.categories is not None:
        # Only if items have categories: TF Serving's REST API requires every input, so a client
        # would have to send options that have no effect.
        specs |= {
            names.DIVERSITY: tf.TensorSpec(None, tf.float32),
            names.ALLOW_CATEGORIES: _STRING_LISTS,
            names.DENY_CATEGORIES: _STRING_LISTS,
        }
    optional = _neutral(specs | filters | _person_specs(bundle))
    required: dict[str, _Input] = {HISTORY: (_STRING_LISTS, None)}
    own = {names.K: _k(bundle), names.EXCLUDE_HISTORY: excludes}
    return signature(serve, {**required, **own, **optional})


def _recommend(bundle: RetrievalBundle) -> Any:
    """Returns the signature that takes the history only.

    TF Serving's REST API requires every input of a signature, even those with a default, so
    this signature has no others.
    """
    person = {name: default for name, (_, default) in _neutral(_person_specs(bundle)).items()}
    nothing = tf.constant(names.neutral_inputs([names.EXCLUDE])[names.EXCLUDE])

    def recommend(history: tf.Tensor) -> dict[str, tf.Tensor]:
        k, excludes = bundle.config.default_k, bundle.config.exclude_history
        return bundle.recommend(history, tf.constant(k), nothing, tf.constant(excludes), person)

    return signature(recommend, {HISTORY: (_STRING_LISTS, None)})


def _k(bundle: RetrievalBundle) -> _Input:
    # k may be a scalar for the whole request or have one value per row, which TF Serving's row
    # format and its batching need.
    return tf.TensorSpec(None, tf.int32), tf.constant(bundle.config.default_k, tf.int32)


def _person_specs(bundle: RetrievalBundle) -> dict[str, tf.TensorSpec]:
    times = tf.TensorSpec([None, None], tf.int64)
    return {name: times if name == HISTORY_TIME else _STRINGS for name in bundle.person_inputs}


def _filter_specs(bundle: RetrievalBundle) -> dict[str, tf.TensorSpec]:
    """Returns the specs of the inputs for the features of ``index.filters``."""
    ranking = bundle.category_ranking
    return {
        name: _STRING_LISTS if names.is_value_list(name) else _STRINGS
        for feature, filter_ in (ranking.filters.items() if ranking else ())
        for name in filter_inputs(feature, filter_)
    }


def _neutral(specs: Mapping[str, tf.TensorSpec]) -> dict[str, tuple[tf.TensorSpec, tf.Tensor]]:
    """Returns ``specs`` with neutral defaults, which have no effect on the answer."""
    values = names.neutral_inputs(specs)
    return {name: (spec, tf.constant(values[name], spec.dtype)) for name, spec in specs.items()}


def signature(function: Callable[..., dict[str, tf.Tensor]], inputs: Mapping[str, _Input]) -> Any:
    """Makes a tf.function with named inputs, some of them with defaults.

    TensorFlow writes the defaults into the SignatureDef, and TF Serving (gRPC) uses them for
    inputs that a request leaves out.

    Args:
      function: Called with the inputs as keyword arguments.
      inputs: The spec and default by input name; inputs without a default come first.
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

    # The names of the profile inputs are known only at run time.
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name) for name, (spec, _) in inputs.items()]
    # No Python control flow here depends on a tensor, and looking for it with AutoGraph would take
    # half of the tracing time.
    return tf.function(call, input_signature=specs, autograph=False)
