"""The examples in the docstrings of ``model`` run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import model

_MODULES = [info.name for info in pkgutil.walk_packages(model.__path__, "model.")]
# What a reader would import has an example.
_WITH_EXAMPLE = {
    "model.network.attention.LabelAwareAttention",
    "model.network.attention.attention_weights",
    "model.network.capsule.CapsuleLayer",
    "model.network.capsule.interest_count",
    "model.network.capsule.squash",
    "model.network.extractors.AverageLayer",
    "model.network.extractors.SelfAttentiveLayer",
    "model.network.item_encoder.ItemEncoder",
    "model.network.mind.MindModel",
    "model.training.losses.sampled_softmax_loss",
    "model.training.optimizer.LazyAdam",
    "model.training.sampling.NegativeSampler",
}


def _examples(name):
    module = importlib.import_module(name)
    return [test for test in doctest.DocTestFinder().find(module, name) if test.examples]


@pytest.mark.parametrize("name", _MODULES)
def test_examples_print_what_they_say(name):
    runner = doctest.DocTestRunner()
    messages = []
    for test in _examples(name):
        runner.run(test, out=messages.append)
    assert not runner.failures, "".join(messages)


def test_public_layers_and_losses_have_an_example():
    found = {test.name for name in _MODULES for test in _examples(name)}
    assert found >= _WITH_EXAMPLE
