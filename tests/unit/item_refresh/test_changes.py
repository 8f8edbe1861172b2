"""Changes of the live catalogue put into a version: it answers as the server did before."""

import numpy as np
import pytest

from contract.catalogue_changes import REMOVAL, Change
from contract.change_log import SqliteChangeLog, open_log
from contract.manifest import LOG_IDENTITY, LOG_POSITION, REFRESH
from item_refresh.__main__ import main
from item_refresh.refresh import refresh
from retrieval.manifest import read_manifest
from retrieval.versions import complete_versions
from serving.live_model import LiveModel
from serving.saved_model import SavedModel
from tests import trained_export
from tests.redis_server import RedisServer

_CHANGES = {
    "brand-new": Change(title="New", features={"genre": ("noir", "war"), "country": ("FR",)}),
    "blank": Change(title="Nothing is known of it"),
    "i02": REMOVAL,
    "i03": Change(features={"genre": ("comedy",), "country": ("CN",)}),
    "i04": Change(title="Another title"),
    "i05": Change(in_stock=False),
    "i06": Change(title="Away", in_stock=False),
}
_HISTORIES = [["i00", "i07"], ["i11", ""], ["i03", "i05"], ["", ""]]


# Each version that is made has to be built, saved and validated.
pytestmark = pytest.mark.slow


@pytest.fixture
def base(trained, tmp_path):
    trained_export.push_bundle(trained, tmp_path / "mind", live_catalogue=True)
    return tmp_path / "mind"


@pytest.fixture
def log(tmp_path):
    opened = SqliteChangeLog(tmp_path / "log" / "mind.changes.sqlite")
    opened.append([(item, lambda _, change=change: change) for item, change in _CHANGES.items()])
    yield opened
    opened.close()


def _answers(path, log):
    """What a server that follows the log answers, and what it knows of titles and categories."""
    model = SavedModel(path)
    try:
        live = LiveModel(model, path, log.identity)
        live.catch_up(log)
        answers = []
        for signature, inputs in (
            ("serving_default", {"history": _objects(_HISTORIES), "k": np.array(100, np.int32)}),
            ("item_titles", {"items": _objects(list(_CHANGES))}),
            ("item_categories", {"items": _objects(list(_CHANGES))}),
            ("item_embeddings", {"items": _objects(["brand-new", "i03", "i04"])}),
        ):
            complete = model.complete_inputs(signature, inputs)
            answers.append(model.run(signature, complete, model.output_names(signature, ())))
        return answers, live
    finally:
        model.close()


def _objects(values):
    return np.array(values, object)


def test_a_version_with_the_changes_answers_as_the_server_with_them(base, log):
    (first,) = complete_versions(str(base))
    before, live = _answers(base / first, log)
    assert live.num_slots == 3  # brand-new, i03, i04
    done = refresh(str(base), [], log=log)
    after, folded = _answers(base / done.version, log)
    assert (folded.num_slots, folded.num_replaced) == (0, 2)  # out of stock: i05 and i06

    assert done.changes.added == 1
    assert done.changes.removed == 1
    for was, now in zip(before[0]["item_ids"], after[0]["item_ids"], strict=True):
        assert [i for i in was if i] == [i for i in now if i]
    scored = np.abs(before[0]["scores"] - after[0]["scores"])
    assert scored.max() < 1e-5
    # Of an item that is not found, the server knows what was pushed; the version what is new.
    known = np.array([item not in ("blank", "i06") for item in _CHANGES])
    assert before[1]["titles"][known].tolist() == after[1]["titles"][known].tolist()
    for was, now in zip(before[2]["categories"], after[2]["categories"], strict=True):
        assert {name for name in was if name} == {name for name in now if name}
    np.testing.assert_allclose(before[3]["vectors"], after[3]["vectors"], atol=1e-5)


def test_the_next_refresh_takes_only_what_came_later(base, log):
    refresh(str(base), [], log=log)
    log.append([("i07", lambda _: REMOVAL)])
    done = refresh(str(base), [], log=log)
    assert (done.changes.removed, done.changes.added) == (1, 0)
    facts = read_manifest(str(base / done.version))[REFRESH]
    assert facts[LOG_POSITION] == log.last() == 8
    assert facts[LOG_IDENTITY] == log.identity


def test_what_every_version_contains_can_go(log):
    assert log.truncate(7) == 5
    assert {entry.item_id for entry in log.kept(7)} == {"i05", "i06"}


def test_the_command_reads_a_log_in_a_server(base, tmp_path, capsys):
    with RedisServer(tmp_path / "redis") as server:
        log = open_log(server.location, "mind")
        log.append([("i02", lambda _: REMOVAL)])
        assert main(["--model_base_path", str(base), "--changes", server.location]) == 0
        assert "1 removed" in capsys.readouterr().out
        pushed = base / complete_versions(str(base))[-1]
        assert read_manifest(str(pushed))[REFRESH][LOG_IDENTITY] == log.identity
        log.close()
        arguments = ["--model_base_path", str(base), "--changes", server.location]
        assert main([*arguments, "--model_name", "shop"]) == 1
        assert "'shop'; it has logs of: 'mind'." in capsys.readouterr().err
        server.kill()
        assert main(["--model_base_path", str(base), "--changes", server.location]) == 1
        assert server.location in capsys.readouterr().err


def test_the_command(base, log, capsys):
    assert main(["--model_base_path", str(base), "--changes", str(log._path.parent)]) == 0
    assert "1 items added" in capsys.readouterr().out
    # The server has another name for the model.
    arguments = ["--model_base_path", str(base), "--changes", str(log._path.parent)]
    assert main([*arguments, "--model_name", "shop"]) == 1
    assert "'shop'; it has logs of: 'mind'." in capsys.readouterr().err
    assert [path.name for path in log._path.parent.glob("*.sqlite")] == ["mind.changes.sqlite"]
    with pytest.raises(SystemExit):
        main(["--model_base_path", str(base)])
    assert "--items, --changes or both" in capsys.readouterr().err
