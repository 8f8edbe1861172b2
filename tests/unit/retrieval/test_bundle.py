"""The served signatures of both kinds of bundle, asked as a client would."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from retrieval.config import IndexConfig
from retrieval.tower import retrievable_items
from tests.synthetic_bundle import save_bundle
from tests.synthetic_tower import Tower, unit_vectors

_NUM_ITEMS, _DIM, _MAX_K = 60, 8, 100
# Never trained, no side features: known, but without a vector.
_NO_VECTOR = 57
_ODD_IDS = {3: "a, b", 4: "line\nbreak", 5: "007", 6: "物品 6", 7: ' "quoted" '}
_IDS = [_ODD_IDS.get(i, f"item{i}") for i in range(_NUM_ITEMS)]
_VECTORS = unit_vectors(_NUM_ITEMS, _DIM)
_VECTORS[_NO_VECTOR] = 0.0
# Not in the order of the vocabulary, with a tie (items 10 and 11).
_COUNTS = np.roll(np.arange(_NUM_ITEMS), 7)
_COUNTS[11] = _COUNTS[10]
_KINDS = ("exact", "scann")


@pytest.fixture(scope="module")
def bundle_dirs(tmp_path_factory):
    """Directory of a saved bundle by kind."""
    root = tmp_path_factory.mktemp("bundles")
    titles = [f"Title {i}" if i % 2 else "" for i in range(_NUM_ITEMS)]
    Tower(_IDS, _VECTORS, _COUNTS, titles).save(root / "trained")
    directories = {}
    for kind in _KINDS:
        directories[kind] = root / kind
        config = IndexConfig(default_k=4, max_k=_MAX_K)
        save_bundle(root / "trained", directories[kind], kind, config)
    return directories


@pytest.fixture(scope="module")
def bundles(bundle_dirs):
    return {kind: tf.saved_model.load(str(path)) for kind, path in bundle_dirs.items()}


@pytest.fixture(params=_KINDS)
def serve(request, bundles):
    """Calls ``serving_default`` and returns (ids, scores, interests) as lists."""
    signature = bundles[request.param].signatures["serving_default"]

    def call(history, k=5, exclude=(("",),), exclude_history=True, taste=("",)):
        width = max([1, *map(len, history)])
        rows = [[*row, *[""] * (width - len(row))] for row in history]
        answer = signature(
            history=tf.constant(rows),
            k=tf.constant(k),
            exclude=tf.constant(exclude),
            exclude_history=tf.constant(exclude_history),
            user_taste=tf.constant(taste),
        )
        ids = [[item.decode() for item in row] for row in answer["item_ids"].numpy()]
        return ids, answer["scores"].numpy(), answer["interest_index"].numpy()

    return call


def expected(history, k, exclude=(), exclude_history=True, sign=1.0):
    """NumPy oracle of one row: ids, scores and interests."""
    rows = [_IDS.index(item) for item in history if item in _IDS]
    half = len(rows) // 2
    interests = [_VECTORS[rows[half:]].mean(axis=0)]
    if half:
        interests.append(_VECTORS[rows[:half]].mean(axis=0))
    interests = [sign * u / np.linalg.norm(u) for u in interests]
    scores = np.stack([_VECTORS @ u for u in interests])  # [K, N]
    hidden = {_NO_VECTOR, *(_IDS.index(item) for item in exclude if item in _IDS)}
    if exclude_history:
        hidden.update(rows)
    order = [i for i in np.argsort(-scores.max(axis=0), kind="stable") if i not in hidden][:k]
    return [_IDS[i] for i in order], scores.max(axis=0)[order], scores.argmax(axis=0)[order]


def popular(k, exclude=()):
    order = np.argsort(-_COUNTS, kind="stable")
    return [_IDS[i] for i in order if i != _NO_VECTOR and _IDS[i] not in exclude][:k]


_HISTORIES = [
    ["item20"],
    ["item20", "item21", "a, b", "line\nbreak"],
    ["item30", "never seen", "", "item31", "item30"],
    ["007", "物品 6", ' "quoted" ', "item8", "item9", "item10", "item11"],
]


def test_a_batch_of_different_lengths_equals_the_oracle(serve):
    ids, scores, interests = serve(_HISTORIES, k=12)
    for row, history in enumerate(_HISTORIES):
        want_ids, want_scores, want_interests = expected(history, 12)
        assert ids[row] == want_ids
        np.testing.assert_allclose(scores[row], want_scores, atol=1e-5)
        assert interests[row].tolist() == want_interests.tolist()


def test_both_interests_contribute(serve):
    _, _, interests = serve([_HISTORIES[1]], k=12)
    assert set(interests[0].tolist()) == {0, 1}


def test_the_answer_does_not_depend_on_batch_mates_or_padding(serve):
    alone, alone_scores, _ = serve([_HISTORIES[1]], k=7)
    together, scores, _ = serve([["", *_HISTORIES[1], "", ""], *_HISTORIES], k=7)
    assert together[0] == together[2] == alone[0]
    np.testing.assert_allclose(scores[0], alone_scores[0], atol=1e-6)


def test_excluded_items_never_come_back(serve):
    first = expected(_HISTORIES[1], 3)[0]
    ids, _, _ = serve([_HISTORIES[1]], k=12, exclude=[[*first, "never seen"]])
    assert ids[0] == expected(_HISTORIES[1], 12, exclude=first)[0]


def test_the_history_comes_back_only_when_asked_for(serve):
    ids, _, _ = serve([["item20"], ["item20"]], k=3, exclude_history=[True, False])
    assert ids[0] == expected(["item20"], 3)[0]
    assert ids[1] == expected(["item20"], 3, exclude_history=False)[0]
    assert ids[1][0] == "item20"


def test_a_profile_reaches_the_tower(serve):
    ids, _, _ = serve([["item20"], ["item20"]], k=5, taste=["", "inverted"])
    assert ids[0] == expected(["item20"], 5)[0]
    assert ids[1] == expected(["item20"], 5, sign=-1.0)[0]


@pytest.mark.parametrize(
    "history", [[], [""], ["never seen"], [_IDS[_NO_VECTOR]]], ids=["none", "pad", "unknown", "new"]
)
def test_without_a_usable_history_the_most_popular_items_come(serve, history):
    ids, scores, interests = serve([history], k=6, exclude=[[popular(1)[0]]])
    assert ids[0] == popular(6, exclude=popular(1))
    assert scores[0].tolist() == [_COUNTS[_IDS.index(item)] for item in ids[0]]
    assert interests[0].tolist() == [-1] * 6


def test_a_cold_person_in_a_warm_batch(serve):
    ids, _, interests = serve([_HISTORIES[0], [], _HISTORIES[1]], k=5)
    assert ids[0] == expected(_HISTORIES[0], 5)[0]
    assert ids[1] == popular(5)
    assert ids[2] == expected(_HISTORIES[1], 5)[0]
    assert (interests[1] == -1).all()


def test_more_than_there_is_ends_in_padding(serve):
    ids, scores, interests = serve([_HISTORIES[1]], k=_MAX_K)
    candidates = _NUM_ITEMS - 1 - len(_HISTORIES[1])
    assert ids[0] == expected(_HISTORIES[1], candidates)[0] + [""] * (_MAX_K - candidates)
    assert _IDS[_NO_VECTOR] not in ids[0]
    assert (scores[0, candidates:] == 0).all()
    assert (interests[0, candidates:] == -1).all()


def test_when_all_but_two_are_excluded_these_two_come(serve):
    left = {"item40", "item41"}
    ids, _, _ = serve([["item20"]], k=5, exclude=[[item for item in _IDS if item not in left]])
    assert ids[0] == [*[i for i in expected(["item20"], _NUM_ITEMS)[0] if i in left], "", "", ""]


def test_k_may_differ_by_row(serve):
    ids, scores, _ = serve([_HISTORIES[0], _HISTORIES[1], []], k=[2, 5, 1])
    assert ids[0] == [*expected(_HISTORIES[0], 2)[0], "", "", ""]
    assert ids[1] == expected(_HISTORIES[1], 5)[0]
    assert ids[2] == [popular(1)[0], "", "", "", ""]
    assert (scores[0, 2:] == 0).all()


@pytest.mark.parametrize("k", [0, -1, _MAX_K + 1])
def test_k_out_of_range_is_refused_with_the_limit(serve, k):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"from 1 to {_MAX_K}"):
        serve([["item20"]], k=k)


def test_a_history_far_longer_than_the_catalogue(serve):
    ids, _, _ = serve([["never seen", *["item20"] * 5000]], k=3)
    assert ids[0] == expected(["item20", "item20"], 3)[0]


@pytest.mark.parametrize("kind", _KINDS)
def test_the_history_alone_is_enough(bundle_dirs, kind):
    """TF Serving (gRPC) feeds the defaults of the SignatureDef for what is left out."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(bundle_dirs[kind]))
        for name in ("serving_default", "recommend"):
            signature = graph.signature_def[name]
            ids = session.run(
                signature.outputs["item_ids"].name,
                {signature.inputs["history"].name: [_HISTORIES[1]]},
            )
            assert [item.decode() for item in ids[0]] == expected(_HISTORIES[1], 4)[0]
        defaults = graph.signature_def["serving_default"].defaults
        assert set(defaults) == {"k", "exclude", "exclude_history", "user_taste"}
        assert set(graph.signature_def["recommend"].inputs) == {"history"}


@pytest.mark.parametrize("kind", _KINDS)
def test_similar_items(bundles, kind):
    answer = bundles[kind].signatures["similar_items"](
        items=tf.constant(["item20", "never seen"]), k=tf.constant(3)
    )
    scores = _VECTORS @ _VECTORS[20]
    order = [i for i in np.argsort(-scores) if i not in (20, _NO_VECTOR)][:3]
    assert answer["item_ids"].numpy().tolist() == [
        [_IDS[i].encode() for i in order],
        [b"", b"", b""],
    ]
    np.testing.assert_allclose(answer["scores"][0], scores[order], atol=1e-5)


def test_item_embeddings_and_titles(bundles):
    signatures = bundles["exact"].signatures
    items = tf.constant(["line\nbreak", "never seen", "item11"])
    vectors = signatures["item_embeddings"](items=items)
    assert vectors["known"].numpy().tolist() == [True, False, True]
    np.testing.assert_array_equal(vectors["vectors"], [_VECTORS[4], [0.0] * _DIM, _VECTORS[11]])
    titles = signatures["item_titles"](items=items)
    assert titles["titles"].numpy().tolist() == [b"", b"", b"Title 11"]
    assert titles["known"].numpy().tolist() == [True, False, True]


def test_the_towers_own_signatures_are_carried(bundles):
    signatures = bundles["scann"].signatures
    ranks = signatures["evaluate"](examples=tf.constant([b"x", b"y"]))["ranks"]
    assert ranks.shape == [2, 1]
    user = signatures["user_interests"](
        history=tf.constant([_HISTORIES[1]]), user_taste=tf.constant([""])
    )
    assert user["interest_mask"].numpy().tolist() == [[True, True]]


def test_a_model_without_any_vector_is_refused():
    tower = Tower(["a", "b"], np.zeros([2, 4]), [1, 0])
    with pytest.raises(ValueError, match="None of the model's 2 items"):
        retrievable_items(tower)


@pytest.mark.parametrize("kind", _KINDS)
def test_the_vectors_are_never_read_sparsely(bundle_dirs, kind):
    """A ResourceGather makes every later whole read of its variable a copy."""
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((bundle_dirs[kind] / "saved_model.pb").read_bytes())
    gathered = {
        len(node.attr["_output_shapes"].list.shape[0].dim)
        for function in model.meta_graphs[0].graph_def.library.function
        for node in function.node_def
        if node.op == "ResourceGather" and node.attr["dtype"].type == tf.float32.as_datatype_enum
    }
    # [B, k] counts are gathered; a [.., d] vector would have one dimension more.
    assert gathered <= {1}


def test_the_catalogue_can_be_listed_in_parts(bundles):
    list_items = bundles["exact"].signatures["list_items"]
    part = list_items(offset=tf.constant(2), limit=tf.constant(3))
    assert [item.decode() for item in part["item_ids"].numpy()] == _IDS[2:5]
    assert part["titles"].numpy().tolist() == [b"", b"Title 3", b""]
    assert part["train_counts"].numpy().tolist() == _COUNTS[2:5].tolist()
    sizes = [
        list_items(offset=tf.constant(offset), limit=tf.constant(limit))["item_ids"].shape[0]
        for offset, limit in ((_NUM_ITEMS - 2, 9), (_NUM_ITEMS + 5, 9), (-3, 4), (0, -1))
    ]
    assert sizes == [2, 0, 4, 0]


def test_known_items_of_the_history_are_counted(bundles):
    """Repetitions count, unknown ids do not, a known item without a vector does."""
    rows = [["item20", "never seen", "", "item20"], ["never seen", "", _IDS[_NO_VECTOR], ""]]
    answer = bundles["exact"].signatures["recommend"](history=tf.constant(rows))
    assert answer["num_known"].numpy().tolist() == [2, 1]


_ASK = """
import sys
import tensorflow as tf
{imports}
loaded = tf.saved_model.load(sys.argv[1])
answer = loaded.signatures["recommend"](history=tf.constant([["item20"]]))
ours = [name for name in sys.modules if name.split(".")[0] in ("model", "components")]
assert not ours, ours
{check}
print("|".join(item.decode() for item in answer["item_ids"].numpy()[0]))
"""


@pytest.mark.parametrize(
    ("kind", "imports", "check"),
    [
        ("exact", "", 'assert "scann" not in sys.modules'),
        ("scann", "from scann.scann_ops.py import scann_ops", ""),
    ],
    ids=_KINDS,
)
def test_a_fresh_process_needs_no_code_of_ours(bundle_dirs, tmp_path, kind, imports, check):
    """``exact`` runs on stock TensorFlow ops; ``scann`` on these and ScaNN's."""
    answer = subprocess.run(
        [sys.executable, "-P", "-c", _ASK.format(imports=imports, check=check), bundle_dirs[kind]],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert answer.stdout.strip().split("|") == expected(["item20"], 4)[0]
