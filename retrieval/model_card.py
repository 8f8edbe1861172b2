"""The model card of a version: what it was made from, how good it is, and its intended use.

It follows M. Mitchell et al., Model Cards for Model Reporting (2019), as far as the
pipeline knows the answers. Both files (Markdown and HTML) are made from the facts in the manifest.
"""

import datetime
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from markdown_it import MarkdownIt

from contract import manifest
from contract.evaluation_outputs import OVERALL
from contract.metric_names import parse_metric_name
from contract.training_report import FROM_NOTHING_BECAUSE

_MARKDOWN = "assets.extra/model_card.md"
_HTML = "assets.extra/model_card.html"
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}
td,th{{padding:.2rem .8rem;border-bottom:1px solid #ccc;text-align:left}}
</style></head>
<body>
{body}</body>
</html>
"""


def write_model_card(model_dir: str, facts: Mapping[str, Any]) -> None:
    """Writes ``model_card.md`` and ``model_card.html`` beside the manifest.

    Args:
      model_dir: The directory of a bundle.
      facts: The facts that will be in its manifest.
    """
    text = render(facts)
    title = f"Model card of {facts.get(manifest.NAME, 'a bundle')}"
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    for path, content in ((_MARKDOWN, text), (_HTML, _PAGE.format(title=title, body=body))):
        target = os.path.join(model_dir, path)
        tf.io.gfile.makedirs(os.path.dirname(target))
        with tf.io.gfile.GFile(target, "w") as file:
            file.write(content)


def render(facts: Mapping[str, Any]) -> str:
    """Returns the card in Markdown; it leaves out whatever is missing from the facts."""
    parts = [
        f"# Model card: {facts.get(manifest.NAME, 'a bundle')}",
        "MIND (arXiv 1904.08030): the model routes the items of a history into interests, and "
        "searches an index of all items with each interest.",
        "## Data",
        _table(("", ""), _data(facts)),
        "## Model",
        _table(("", ""), _model(facts)),
    ]
    if quality := _quality(facts):
        parts += ["## Quality on the test split", _table(("", "value", "95 % interval"), quality)]
    if limits := _limits(facts):
        parts += [
            "## Checks that a pushed version has passed",
            _table(("", "limit"), limits),
            "Guard rails that only warn are not listed here; they are in the report of the run.",
        ]
    parts += [
        "## Intended use and limitations",
        "The model recommends items from its catalogue to people on the basis of what they did "
        "before. It cannot recommend an item that is not in the catalogue, and it answers a "
        "history without a known item with the most popular items. Histories record behaviour, "
        "not opinions: people chose more often what they were shown more often, and the model "
        "repeats that. The metrics above are means over people; where the table has a row for "
        "people with short histories, it shows how well the model serves them.",
    ]
    return "\n\n".join(parts) + "\n"


def _data(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    data = facts.get(manifest.DATA, {})
    rows = []
    if window := data.get("window"):
        rows.append(("Spans", f"{window['first']} to {window['last']}, {window['spans']:,} in all"))
    if time := data.get("time"):
        rows.append(("Events from", f"{_date(time['first'])} to {_date(time['last'])} (UTC)"))
    rows += [
        (label, f"{data[key]:,}")
        for label, key in (("Events", "events"), ("People", "people"), ("Items", "items"))
        if key in data
    ]
    rows += [
        (f"People in {split}", f"{count:,}") for split, count in data.get("sequences", {}).items()
    ]
    license_of = facts.get(manifest.CONFIG, {}).get("data", {}).get("license")
    rows.append(("License of the data", license_of or "not stated (`data.license`)"))
    return [*rows, ("Digest of the data", facts.get(manifest.DATA_DIGEST) or "unknown")]


def _model(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    network = facts.get(manifest.CONFIG, {}).get("model", {})
    # A training that also tried one interest may have kept fewer than the configuration asks for.
    if interests := facts.get(manifest.NUM_INTERESTS):
        network = {**network, manifest.NUM_INTERESTS: interests}
    rows = [
        (label, f"{network[key]:,}")
        for label, key in (
            ("Interests per person, at most", manifest.NUM_INTERESTS),
            ("Dimensions", "embedding_dim"),
            ("Latest events of a history that are used", "history_length"),
        )
        if key in network
    ]
    generation = facts.get(manifest.GENERATION)
    if generation is not None:
        because = facts.get(FROM_NOTHING_BECAUSE)
        from_nothing = f"from scratch: {because}" if because else "from scratch"
        rows.append(("Training", f"warm start number {generation}" if generation else from_nothing))
    if steps := facts.get(manifest.STEPS_ON_ALL):
        rows.append(
            (
                "Trained on all events",
                f"{steps:,} steps. The metrics below are those of {facts[manifest.JUDGED_MODEL]}, "
                "which was trained in the same way, but without the events used for the metrics",
            )
        )
    if index := facts.get(manifest.INDEX):
        rows.append(
            (
                "Index",
                f"{index[manifest.ALGORITHM]}, recall {index[manifest.RECALL]:.4f} when built",
            )
        )
    if refreshed := facts.get(manifest.REFRESH):
        rows.append(("Items refreshed", ", ".join(f"{k} {v}" for k, v in refreshed.items())))
    rows += [
        (label, facts[key])
        for label, key in (
            ("Run key", manifest.RUN_KEY),
            ("Digest of the code", manifest.SOURCE_DIGEST),
            ("Digest of the locked packages", manifest.LOCK_DIGEST),
        )
        if facts.get(key)
    ]
    return rows + sorted(facts.get(manifest.VERSIONS, {}).items())


def _quality(facts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    primary = facts.get(manifest.PRIMARY_METRIC)
    metrics = facts.get(manifest.METRICS, {})
    if not primary or "value" not in metrics.get(primary, {}):
        return []
    parsed = parse_metric_name(primary)
    rows = []
    for name, found in sorted(metrics.items()):
        other = parse_metric_name(name)
        same = (other.cutoff, other.history_included) == (parsed.cutoff, parsed.history_included)
        if same and "value" in found and not name.endswith("_diff"):
            rows.append((name, *_estimate(found)))
    rows += [
        (f"{primary}, {name}", *_estimate(found))
        for name, found in sorted(facts.get(manifest.SLICES, {}).items())
        if name != OVERALL and "value" in found
    ]
    return rows


def _limits(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    config = facts.get(manifest.CONFIG, {})
    primary = facts.get(manifest.PRIMARY_METRIC)
    if "evaluation" not in config or not primary:
        return []
    evaluation, index = config["evaluation"], config.get("index", {})
    rows = [
        (f"{primary} above popularity by more than", f"{evaluation['min_lift_over_popularity']:g}"),
        (
            f"{primary} below the previous version by at most",
            f"{evaluation['max_drop_from_pushed']:g}",
        ),
    ]
    if "recall_target" in index:
        rows.append(("recall of the index against exact search", f"{index['recall_target']:g}"))
    return rows


def _estimate(found: Mapping[str, float]) -> tuple[str, str]:
    interval = f"{found['low']:.4f} to {found['high']:.4f}" if "low" in found else ""
    return f"{found['value']:.4f}", interval


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _date(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).date().isoformat()
