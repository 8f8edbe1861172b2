import html
import html.parser
import re

import pytest

from report import html_report as run_report
from tests.unit.report import summaries


class _Page(html.parser.HTMLParser):
    """What the tests look at: tags, ids, addresses and the text of each section."""

    _VOID = frozenset({"meta", "br", "img", "link", "hr"})

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.addresses, self.tags = [], [], [], []
        self.texts = {"": []}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        if tag not in self._VOID:
            self.open.append((tag, attributes.get("id")))
        if "id" in attributes:
            self.ids.append(attributes["id"])
            self.texts[attributes["id"]] = []
        self.addresses += [attributes[k] for k in ("href", "src", "xlink:href") if k in attributes]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, name in self.open:
            if name:
                self.texts[name].append(data)
        self.texts[""].append(data)

    def text(self, section=""):
        return re.sub(r"\s+", " ", " ".join(self.texts[section]))


@pytest.fixture(scope="module")
def text():
    return run_report.render(summaries.pushed())


@pytest.fixture(scope="module")
def page(text):
    return _Page(text)


def test_one_small_file_is_written(tmp_path):
    path = run_report.write(summaries.pushed(), tmp_path)
    assert [path] == list(tmp_path.iterdir())
    assert path.stat().st_size < 1_000_000
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_page_needs_nothing_else(page, text):
    assert {"script", "link", "img", "iframe"}.isdisjoint(page.tags)
    assert all(address.startswith("#") for address in page.addresses)
    assert not re.search(r"@import|url\((?!#)", text)
    assert "default-src 'none'" in html.unescape(text)


def test_tags_are_closed_and_ids_unique(page):
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {address.removeprefix("#") for address in page.addresses} <= set(page.ids)


def test_charts_take_their_colours_from_the_page(text):
    charts = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "var(--mind)" in charts
    assert set(re.findall(r"var\((--[\w-]+)\)", charts)) <= set(re.findall(r"(--[\w-]+):", text))
    assert not re.search(r"#[0-9a-f]{6}\b", charts)


def test_every_chart_is_described_in_words(page, text):
    labels = re.findall(r'<svg role="img" aria-label="([^"]+)"', text)
    assert len(labels) == page.tags.count("svg") == 5
    assert "Item-kNN 0.3120 (0.2824 to 0.3416)" in labels[0]
    assert "tail: 0.0895" in labels[2]


def test_the_headline_compares_on_the_primary_metric(page):
    # 0.373 against 0.362, 0.312 and 0.186
    assert "Blessed and pushed as version 1795518151" in page.text()
    assert re.search(r"vs\. last pushed \+3 %", page.text())
    assert re.search(r"vs\. item-kNN \+20 %", page.text())
    assert re.search(r"vs\. popularity \+101 %", page.text())


def test_the_best_of_each_row_is_marked():
    summary = summaries.pushed()
    summary["metrics"]["item_knn"]["overall"]["ndcg_at_10"]["value"] = 0.9
    rows = run_report.quality_tables(summary)[0]["rows"]
    best = {row["label"]: [is_best for _, is_best in row["cells"]] for row in rows}
    assert best["Recall@10"] == [True, False, False, False]
    assert best["NDCG@10"] == [False, False, True, False]
    assert not any(best["Coverage@10"])
    assert list(best) == [
        *(f"{q}@{n}" for q in ("Recall", "NDCG", "Hit rate") for n in (10, 20, 50)),
        "MRR",
        *(f"Coverage@{n}" for n in (10, 20, 50)),
    ]


def test_the_primary_ranking_comes_first():
    summary = summaries.pushed()
    assert [t["history_included"] for t in run_report.quality_tables(summary)] == [False, True]
    summary["primary_metric"] = "recall_at_50_history_included"
    first, second = run_report.quality_tables(summary)
    assert first["history_included"]
    # 0.373 * 0.82
    assert first["rows"][2]["cells"][0][0].value == pytest.approx(0.30586)
    assert second["rows"][2]["cells"][0][0].value == pytest.approx(0.373)


def test_hits_are_marked_among_the_recommendations(page, text):
    marked = re.findall(r'<mark class="item">([^<]+)', text)
    assert marked == ["Beauty and the Beast", "Star Trek: First Contact"]
    assert "1 of 1 found" in page.text("people")
    assert "0 of 1 found" in page.text("people")


def test_many_targets_are_cut_short_but_counted():
    summary = summaries.pushed()
    person = summary["sample_people"][0]
    person["targets"] = [{"item_id": f"t{n}", "title": f"Target {n}"} for n in range(30)]
    text = _Page(run_report.render(summary)).text("people")
    assert "Target 11" in text
    assert "Target 12" not in text
    assert "and 18 more" in text
    assert "0 of 30 found" in text


def test_every_event_that_was_not_kept_has_its_reason(page):
    text = page.text("data")
    assert "Events kept 99,287 (99.3%)" in text
    assert "item too rare 710" in text
    assert "unparsable timestamp 2" in text
    assert "output/bad_rows/movielens-100k/interactions.jsonl" in text
    assert "First event 20 Sep 1997" in text


def test_steps_tell_cached_from_run(page):
    text = page.text("steps")
    assert "example-gen cached" in text
    assert "trainer 1 min 33 s" in text
    assert "5 of 14 steps from cache" in page.text()


def test_what_was_removed_of_earlier_runs_is_said():
    counts = {"runs": 12, "artifacts": 0, "versions": 3, "spans": 0, "bytes": 214_000_000}
    summary = {**summaries.pushed(), "removed": {**counts, "failed": []}}
    text = _Page(run_report.render(summary)).text("steps")
    assert "Removed from earlier runs: 12 runs, 3 versions, 214.0 MB" in text


def test_text_from_the_data_cannot_become_markup():
    attack = "<script>alert('$x$')</script>"
    summary = summaries.pushed()
    summary["name"] = attack
    summary["sample_people"][0]["history"][0]["title"] = attack
    summary["sample_people"][0]["interests"][0]["items"][0]["title"] = attack
    summary["manifest"]["config"]["note"] = attack
    page = _Page(run_report.render(summary))
    assert "script" not in page.tags
    assert page.text("people").count(attack) == 2
    assert attack in page.text("configuration")


def test_a_refusal_is_explained():
    text = _Page(run_report.render(summaries.refused())).text()
    assert "Not blessed, not pushed" in text
    assert "at most 0.01 below the last pushed model; measured: 0.0170 below" in text
    assert "The model in service is unchanged." in text


@pytest.mark.parametrize("part", summaries.PARTS)
def test_a_missing_part_leaves_out_its_section_only(part):
    sections = {
        "data": {"data"},
        "training": {"training"},
        "index": set(),
        "manifest": {"configuration"},
        "sample_people": {"people"},
        "blessing": set(),
    }
    everything = {"quality", "people", "training", "index", "data", "steps", "configuration"}
    page = _Page(run_report.render({**summaries.pushed(), part: None}))
    assert everything - set(page.ids) == sections[part]
    assert {a.removeprefix("#") for a in page.addresses} <= set(page.ids)


def test_a_run_without_any_result_still_lists_its_steps():
    page = _Page(run_report.render(summaries.empty()))
    assert "Not evaluated, not pushed" in page.text()
    assert "trainer 1 min 33 s" in page.text("steps")
    assert not {"quality", "index", "data"} & set(page.ids)


def test_exact_search_has_no_curve():
    summary = summaries.pushed()
    summary["manifest"]["index"] = {"algorithm": "exact", "curve": []}
    page = _Page(run_report.render(summary))
    assert "there is no setting to tune" in page.text("index")
    assert page.tags.count("svg") == 4


def test_metrics_without_intervals_are_shown_plainly():
    summary = summaries.pushed()
    for slices in summary["metrics"].values():
        for metrics in slices.values():
            for value in metrics.values():
                value.pop("low", None)
                value.pop("high", None)
    page = _Page(run_report.render(summary))
    assert "Recall@50 0.3730 0.3620" in page.text("quality")
    assert "95 % interval" not in page.text("")


def test_equal_summaries_give_equal_files(text):
    assert run_report.render(summaries.pushed()) == text


def test_a_warm_start_has_no_loss_before_its_first_step():
    summary = summaries.pushed()
    history = summary["training"]["history"]
    start = {key: value for key, value in history[0].items() if key != "loss"} | {"step": 0}
    summary["training"]["history"] = [start, *history]
    labels = re.findall(r'aria-label="([^"]+)"', run_report.render(summary))
    (curves,) = (label for label in labels if label.startswith("Training over"))
    assert f"Training loss from {history[0]['loss']:.4g} to {history[-1]['loss']:.4g}" in curves


def test_the_popularity_of_the_last_days_is_shown_in_its_own_colours():
    summary = summaries.pushed()
    metrics = summary["metrics"]
    metrics |= {"recent_1d": metrics["popularity"], "recent_7d": metrics["popularity"]}
    metrics |= {"personal_frequency": metrics["popularity"]}
    text = run_report.render(summary)
    colors = {"var(--recent-1d)", "var(--recent-7d)", "var(--personal)"}
    assert colors <= set(re.findall(r"var\(--[\w-]+\)", text))
    assert "Popularity, 1 d" in _Page(text).text("quality")
