"""What the demo page is served from; the page itself is tested in a browser."""

import pytest

from tests import serving_models
from tests.running_server import RunningServer


def _find(server, query, model="mind"):
    response = server.http.get("/demo/items", params={"q": query, "model": model})
    return response.status_code, response.json()


def test_items_are_found_by_a_part_of_their_title(server):
    status, found = _find(server, "tITLE 19")
    assert status == 200
    assert found[0] == {"id": "19", "title": "Title 19"}
    assert [item["id"] for item in found] == ["19", *(str(i) for i in range(190, 200))]


def test_items_are_found_by_their_whole_id(server):
    assert _find(server, "13")[1] == [
        {"id": "13", "title": "<b>Bold</b> & co"},
        *({"id": i, "title": f"Title {i}"} for i in ("113", "130", "131", "132", "133")),
        *({"id": i, "title": f"Title {i}"} for i in ("134", "135", "136", "137", "138", "139")),
    ]


@pytest.mark.parametrize(("query", "expected"), [("", 50), ("(", 0), ("no such", 0)])
def test_odd_queries(server, query, expected):
    status, found = _find(server, query)
    assert (status, len(found)) == (200, expected)


def test_models_without_a_listing_find_nothing_and_unknown_ones_are_an_error(server):
    assert _find(server, "1", "half_plus_two") == (200, [])
    assert _find(server, "1", "nope")[0] == 404


def test_a_new_version_is_searched_anew(recommender, tmp_path):
    serving_models.save_recommender(tmp_path / "saved", num_items=5)
    serving_models.push(tmp_path / "saved", tmp_path / "mind", 1)
    with RunningServer(
        model_base_path=str(tmp_path / "mind"), file_system_poll_wait_seconds=0.05
    ) as server:
        assert len(_find(server, "")[1]) == 5
        serving_models.push(recommender, tmp_path / "mind", 2)
        server.call(server.server.manager.poll())
        assert len(_find(server, "Title 19")[1]) == 11


def test_the_page_and_its_files_are_served_and_fetch_nothing_else(server):
    page = server.http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    for name in ("demo.js", "demo.css"):
        assert f"/static/{name}" in page.text
        assert server.http.get(f"/static/{name}").status_code == 200
    assert server.http.get("/static/../server.py").status_code == 404
    assert server.http.get("/static/%2e%2e/server.py").status_code == 404
