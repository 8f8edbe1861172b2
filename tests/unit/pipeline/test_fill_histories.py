"""The store is filled with the examples of a run, again and again, and without the erased."""

import json
import shutil
import time

import pytest

from contract.config_types import from_dict
from contract.histories import Event, Profile, Reported, Retention
from contract.history_store import Batch, open_store
from pipeline import fill_histories, forget
from pipeline.config import RunConfig
from pipeline.output_layout import OutputLayout
from tests.synthetic_examples import sequence_example, write_examples

_NOW = int(time.time())
_DAYS = 10


@pytest.fixture
def run(tmp_path):
    """Examples of a run, a configuration file, and a place for the store."""
    return _Run(tmp_path)


class _Run:
    def __init__(self, folder):
        self.folder = folder
        self.store = folder / "store"
        self.examples = folder / "examples"
        (folder / "log.csv").write_text("user_id,item_id,timestamp\nu,i,1\n")
        (folder / "out").mkdir()
        self.config = folder / "shop.yaml"
        self.config.write_text(
            f"name: shop\noutput_dir: {folder}/out\n"
            f"data: {{interactions: {{files: [{folder}/log.csv]}}}}\n"
        )

    def write(self, split, *rows):
        """Writes rows of a person, events as (age in seconds, item), and a profile."""
        examples = []
        for user, events, profile in rows:
            times = [_NOW - age for age, _ in events]
            items = [item for _, item in events]
            examples.append(sequence_example(user, items, 1, profile, times))
        write_examples(self.examples / f"Split-{split}" / "data-00000-of-00001.gz", examples)

    def fill(self, *flags):
        return fill_histories.main(
            [
                *("--config", str(self.config), "--history_store", str(self.store)),
                *("--examples", str(self.examples), *flags),
            ]
        )

    def forget(self, *flags):
        return forget.main(
            ["--config", str(self.config), "--history_store", str(self.store), *flags]
        )

    def opened(self, model="shop"):
        return open_store(str(self.store), model, Retention(days=_DAYS))


def _events(*ages_and_items):
    return tuple(Event(_NOW - age, item) for age, item in ages_and_items)


def test_all_splits_become_one_history_for_each_person(run, capsys):
    history = [(500, "a"), (400, "b"), (400, "c"), (300, "d"), (200, "e"), (100, "f")]
    # Two chunks of train that overlap, and the held-out rows with their targets.
    run.write("train", ("u", history[:3], {"user_age": "7"}), ("u", history[2:4], None))
    run.write("eval", ("u", history[:5], None), ("v", [(9, "a")], {"user_age": 24.5}))
    run.write("test", ("u", history[1:], {"user_age": "8", "user_city": "Delft"}))
    run.write("catalog")
    assert run.fill() == 0
    assert "7 events that were new to the store\nKept      2 people" in capsys.readouterr().out
    u, v, w = run.opened().read(["u", "v", "w"])
    assert u.events == _events(*history)
    assert u.profile == Profile(_NOW - 100, {"age": "8", "city": "Delft"})
    assert v.events == _events((9, "a"))
    assert v.profile.features == {"age": "24.5"}
    assert not w


def test_a_later_fill_adds_what_is_new_and_keeps_what_the_server_took(run, capsys):
    run.write("train", ("u", [(500, "a"), (400, "b")], {"user_age": "7"}))
    assert run.fill() == 0
    run.opened().add(
        [Batch({"u": Reported(list(_events((50, "live"))), Profile(_NOW - 40, {"age": "8"}))})]
    )
    capsys.readouterr()
    assert run.fill() == 0
    assert "Written   0 events" in capsys.readouterr().out
    run.write("train", ("u", [(400, "b"), (300, "c"), (50, "live")], {"user_age": "7"}))
    assert run.fill() == 0
    (u,) = run.opened().read(["u"])
    assert u.events == _events((500, "a"), (400, "b"), (300, "c"), (50, "live"))
    assert u.profile.features == {"age": "8"}


def test_only_what_the_server_would_keep_is_written(run, capsys):
    day = 86_400
    events = [(200 * day, "a"), (95 * day, "b"), (30 * day, "c"), (20, "d"), (-10 * day, "future")]
    run.write("train", ("u", events, None), ("old", [(99 * day, "a")], None))
    assert run.fill("--history_days", "90", "--history_max_events", "1") == 0
    kept = open_store(str(run.store), "shop", Retention(days=0)).read(["u", "old"])
    assert [person.events for person in kept] == [_events((20, "d")), ()]
    run.write("train", ("old", [(99 * day, "a")], None))
    assert run.fill("--model_name", "other") == 0
    assert "All events are older than 90 days" in capsys.readouterr().out
    assert run.opened("other").count() == 0


def test_the_erased_stay_out(run, capsys):
    rows = [(user, [(500, "a"), (400, "b")], {"user_age": "7"}) for user in ("u-1", "v-1", "w-1")]
    run.write("train", *rows)
    assert run.fill() == 0
    assert run.forget("--user", "u-1", "--user", "x-1", "--check") == 1
    assert "Found in the histories of the server: 1 people" in capsys.readouterr().out
    assert run.forget("--user", "u-1", "--user", "x-1") == 0
    assert "Histories     of 1 people are erased in the server's store" in capsys.readouterr().out
    assert run.forget("--user", "u-1", "--check") == 0
    run.opened().erase(["v-1"])  # as the server does it, which writes no list
    for path in run.store.iterdir():
        assert b"u-1" not in path.read_bytes()
    # Also with what happened since.
    rows[0] = ("u-1", [(500, "a"), (-5, "new"), (0, "new")], None)
    run.write("train", *rows)
    capsys.readouterr()
    assert run.fill() == 0
    assert (
        "Left out  1 sequences of people on the list of forgotten people" in capsys.readouterr().out
    )
    found = run.opened().read(["u-1", "v-1", "w-1"])
    assert [bool(person) for person in found] == [False, False, True]


def test_forgetting_an_item_or_without_a_store_leaves_the_histories(run, capsys):
    run.write("train", ("u-1", [(500, "item-1")], None))
    assert run.fill() == 0
    assert run.forget("--item", "item-1") == 0
    config = ["--config", str(run.config)]
    assert forget.main([*config, "--user", "u-1"]) == 0
    assert run.opened().count() == 1
    assert run.forget("--user", "u-1", "--model_name", "mind") == 1
    assert "has those of shop. Name the model as the server does" in capsys.readouterr().err


def test_the_examples_are_those_of_the_pushed_version(run, capsys):
    flags = ["--config", str(run.config), "--history_store", str(run.store)]
    assert fill_histories.main(flags) == 1
    assert "there is no version in" in capsys.readouterr().err
    pushed = run.folder / "pushed"
    flags += ["--set", f"push.destination={pushed}"]
    for version, facts in (("1", {"examples": f"{run.examples}/Split-eval"}), ("2", {})):
        manifest = pushed / version / "assets.extra" / "manifest.json"
        manifest.parent.mkdir(parents=True)
        (pushed / version / "saved_model.pb").write_text("")
        manifest.write_text(json.dumps({**facts, "files": {}}))
    assert fill_histories.main(flags) == 1
    assert "version 2 in" in capsys.readouterr().err
    shutil.rmtree(pushed / "2")
    assert fill_histories.main(flags) == 1
    assert "There are no examples" in capsys.readouterr().err
    run.write("test", ("u", [(9, "a")], None))
    assert fill_histories.main(flags) == 0
    assert f"Read      1 sequences of {run.examples}\n" in capsys.readouterr().out
    assert fill_histories.main(["--config", "nope.yaml", "--history_store", "x"]) == 2


def test_a_list_that_lost_its_key_stops_the_fill(run, capsys):
    run.write("train", ("u-1", [(500, "a")], None))
    assert run.fill() == 0
    assert run.forget("--user", "u-1") == 0
    config = from_dict(RunConfig, {"name": "shop", "data": {"interactions": {"files": ["x"]}}})
    layout = OutputLayout(run.folder / "out", config.name)
    layout.forgotten.with_name(layout.forgotten.name + ".key").unlink()
    assert run.fill() == 1
    assert "cannot be read" in capsys.readouterr().err
    assert run.opened().count() == 0
