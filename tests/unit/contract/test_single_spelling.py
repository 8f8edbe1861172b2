"""The names of the contract are spelled in ``contract/`` only."""

import ast
import re
from pathlib import Path

import pytest

from contract import (
    catalogue_changes,
    evaluation_outputs,
    features,
    manifest,
    signatures,
    versions,
)
from serving.config import DEFAULT_CALLER_KEY_HEADER

_ROOT = Path(__file__).resolve().parents[3]
_MODULES = (evaluation_outputs, features, manifest, versions, signatures)
_PACKAGES = ("retrieval", "serving", "report", "item_refresh")
# Words that stand for something else where they are, by file. Words of one part are
# common, so there are some; add one only if it is not the name of the contract.
_OTHER_MEANINGS = {
    "retrieval/build.py": {"items", "data"},  # sections of the configuration
    "serving/json_api.py": {"name"},  # a part of the paths
    "retrieval/config.py": {manifest.EXACT},  # a kind of index that is configured
    "retrieval/tuning.py": {manifest.EXACT},
    "serving/rest.py": {"name"},  # groups of the paths' pattern
    "serving/grpc_service.py": {"config"},  # a field of TF Serving's request
    "serving/demo.py": {"title"},  # the demo page's own search
    "serving/release.py": {"versions", "history"},  # keys of the status as JSON
    "item_refresh/refresh.py": {"items", "index", "data"},  # sections of the configuration
    # Sections of the configuration, a heading, and a count of the data.
    "retrieval/model_card.py": {"data", "index", "limit", "items"},
}
# Keys of summary.json, which the report writes and reads itself, beside all words of
# one part.
_SUMMARY_KEYS = {"item_id", "user_id", "run_key", "recall_k", "primary_metric"}


def _contract_names():
    """The place of each name by its text."""
    return {
        value: f"{module.__name__}.{constant}"
        for module in _MODULES
        for constant, value in vars(module).items()
        if constant.isupper() and isinstance(value, str) and value
    }


def _strings(path):
    """The string constants of a file that are not docstrings."""
    tree = ast.parse(path.read_text())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value, node.lineno


def _is_word(name):
    return name.isalpha()


@pytest.mark.parametrize("package", _PACKAGES)
def test_no_name_is_spelled_again(package):
    names = _contract_names()
    assert names["serving_default"] == "contract.signatures.SERVE"
    found = []
    for path in sorted((_ROOT / package).rglob("*.py")):
        file = str(path.relative_to(_ROOT))
        for text, line in _strings(path):
            if text not in names or text in _OTHER_MEANINGS.get(file, ()):
                continue
            if package == "report" and (_is_word(text) or text in _SUMMARY_KEYS):
                continue
            found.append(f"{file}:{line}: {text!r} is {names[text]}")
    assert not found


def test_every_other_meaning_is_still_there():
    for file, words in _OTHER_MEANINGS.items():
        assert words <= {text for text, _ in _strings(_ROOT / file)}, file


def test_the_template_of_the_report_reads_the_manifest_by_name():
    text = (_ROOT / "report" / "templates" / "report.html.jinja").read_text()
    assert re.findall(r"summary\.manifest\.\w+", text) == []


def test_the_demo_page_uses_names_of_the_contract():
    """JavaScript cannot import them, so the page's spelling is compared."""
    text = (_ROOT / "serving" / "static" / "demo.js").read_text()
    text = re.sub(r"//.*", "", text)  # without comments
    called = set(re.findall(r'predict\("(\w+)"', text)) | set(
        re.findall(r'onlyInputsOf\("(\w+)"', text)
    )
    assert called == {
        signatures.SERVE,
        signatures.USER_INTERESTS,
        signatures.ITEM_EMBEDDINGS,
        signatures.ITEM_TITLES,
        signatures.ITEM_CATEGORIES,
        signatures.LIST_CATEGORIES,
    }
    outputs = set(re.findall(r"\b(?:found|user|items)\.(\w+)(?:\b(?!\())", text))
    assert {"item_ids", "interest_index", "scores", "interests", "interest_mask"} <= outputs
    # The page's own names are in camel case: what has an underscore is a name of the
    # contract or of TF Serving's API.
    others = {"signature_name", "model_spec", "signature_def", catalogue_changes.IN_STOCK}
    assert set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", text)) - others <= set(_contract_names())
    assert re.findall(r'"(user_)"', text)[0] == features.USER_PREFIX
    prefixes = re.findall(r'"([a-z]+_)": "', text)
    assert prefixes == [
        signatures.ALLOW_PREFIX,
        signatures.DENY_PREFIX,
        signatures.MIN_PREFIX,
        signatures.MAX_PREFIX,
    ]
    # Categories are filtered by like any other feature.
    (category,) = re.findall(r'CATEGORY = "(\w+)"', text)
    assert signatures.ALLOW_PREFIX + category == signatures.ALLOW_CATEGORIES
    assert signatures.DENY_PREFIX + category == signatures.DENY_CATEGORIES
    assert re.findall(r'"(x-[a-z-]+)"', text) == [DEFAULT_CALLER_KEY_HEADER]
    # People see interests counted from 1.
    assert "`Interest ${interest + 1}`" in text
    assert signatures.interest_number(0) == 1
