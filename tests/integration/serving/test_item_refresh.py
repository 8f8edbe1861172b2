"""A running server takes a refreshed version over, with the new item in it."""

import shutil

import pytest

from item_refresh.refresh import refresh
from retrieval.versions import complete_versions
from serving.client import Client
from tests import trained_export
from tests.running_server import LONG_SECONDS, RunningServer, wait_until


@pytest.mark.slow
def test_the_server_swaps_to_a_refreshed_version(pushed_exact, tmp_path):
    base = tmp_path / "served"
    shutil.copytree(pushed_exact, base)
    (first,) = complete_versions(str(base))
    with (
        RunningServer(
            model_base_path=str(base), model_name="mind", file_system_poll_wait_seconds=0.05
        ) as server,
        Client(server.url, timeout_seconds=LONG_SECONDS) as client,
    ):
        before = client.recommend([["i03", "i17"]], k=100)[0]
        rows = [("brand-new", "Brand new", "noir|war", "FR")]
        done = refresh(str(base), [trained_export.items_csv(tmp_path / "new.csv", rows)])
        wait_until(lambda: client.titles(["brand-new"]) == ["Brand new"])
        after = client.recommend([["i03", "i17"]], k=100)[0]
    assert int(done.version) > int(first)
    ids = [item.item_id for item in after]
    assert "brand-new" in ids
    # The others are what they were, with the same scores, in the same order.
    assert [item for item in after if item.item_id != "brand-new"] == before
