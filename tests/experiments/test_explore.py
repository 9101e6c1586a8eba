"""What the page of `experiments.explore` is answered, and whom its server answers."""

import dataclasses
import http.client
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from alterrec_jax.errors import UserError
from experiments.explore_answers import Explorer
from experiments.explore_server import Server, content_security_policy
from tests.conftest import CATALOGUE
from tests.examples import random_model
from tests.experiments.examples import MARKUP, dataset_with_markup, serving
from tests.models.families import TINY

VIEWS = ["fused", "id", "text"]


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    """A run of random parameters."""
    dataset = dataset_with_markup(tmp_path_factory.mktemp("explore") / "data")
    trained = random_model(TINY["alterrec"].check(), dataset)
    return Explorer(dataclasses.replace(trained, best={"epoch": 1}), "tiny run")


@pytest.fixture(scope="module")
def server(explorer: Explorer) -> Iterator[Server]:
    with serving(explorer) as server:
        yield server


def test_about_names_the_run_its_views_and_its_protocol(explorer: Explorer) -> None:
    about = explorer.about()
    assert (about["run"], about["model"], about["items"], about["main"]) == ("tiny run", "alterrec", CATALOGUE, "fused")
    assert about["best_epoch"] == 2 and about["finished"] and not about["exclude_session_items"]
    assert [view["name"] for view in about["views"]] == VIEWS
    assert about["views"][1]["weights"] == {"id": 1.0}


def test_search_wants_all_words_and_puts_the_most_bought_first(explorer: Explorer) -> None:
    popular = explorer.items("")
    counts = [item["count"] for item in popular]
    assert len(popular) == 20 and counts == sorted(counts, reverse=True) and counts[0] > counts[-1]
    found = explorer.items("  THING 2")
    assert {item["name"] for item in found} == {f"thing {n}" for n in (2, 12, *range(20, CATALOGUE))}
    assert [item["id"] for item in explorer.items("b00 thing 7")] == ["B007"]
    assert [item["name"] for item in explorer.items("<b>")] == [MARKUP]
    assert explorer.items("thing nothing") == []
    assert explorer.items("B030") == []  # occurs in held-out sessions alone


def test_an_item_whose_id_is_asked_for_stands_first(explorer: Explorer) -> None:
    assert explorer.items(" B003")[0]["id"] == "B003" and len(explorer.items("B003")) == 1


def test_rankings_of_all_views_with_evidence(explorer: Explorer) -> None:
    answer = explorer.rank(["B003", "nothing", "B030", "B007", "B003", "nothing"], k=4)
    assert [item["id"] for item in answer["session"]] == ["B003", "B030", "B007", "B003"]
    assert [item["known"] for item in answer["session"]] == [True, False, True, True]
    assert answer["unknown"] == ["nothing"]
    assert [view["name"] for view in answer["views"]] == VIEWS
    for view in answer["views"]:
        scores = [item["score"] for item in view["items"]]
        assert len(scores) == 4 and scores == sorted(scores, reverse=True)
        for item in view["items"]:
            values = [one["value"] for one in item["evidence"]]
            assert {one["id"] for one in item["evidence"]} == {"B003", "B007"}
            assert values == sorted(values, reverse=True)
            assert sum(one["share"] for one in item["evidence"]) == pytest.approx(1 if values[0] > 0 else 0)


def test_own_items_are_left_out_by_the_protocol_unless_it_is_said_otherwise(explorer: Explorer) -> None:
    session = ["B003", "B007"]

    def items(**options: Any) -> list[str]:
        return [item["id"] for item in explorer.rank(session, k=CATALOGUE, **options)["views"][0]["items"]]

    assert items() == items(exclude_session_items=False) and {*session} <= {*items()}
    assert items(exclude_session_items=True) == [item for item in items() if item not in session]


def test_a_test_session_and_what_came_next(explorer: Explorer) -> None:
    many = explorer.about()["test_sessions"]
    found = explorer.sample(1)
    assert found == explorer.sample(1 + many) and found["number"] == 1
    assert 2 <= len(found["session"]) <= 11 and found["next"]["id"].startswith("B")


@pytest.mark.parametrize(
    ("session", "k", "words"),
    [
        ([], 10, "no item that training had"),
        (["nothing", "B030"], 10, "no item that training had"),
        (["B003"], 0, "k is 0; it goes from 1 to 29"),
        (["B003"], 30, "k is 30"),
        (["B003"] * 201, 10, "a session of 201 items is too long"),
    ],
)
def test_what_cannot_be_ranked_is_said(explorer: Explorer, session: list[str], k: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        explorer.rank(session, k)


def ask(server: Server, path: str, body: bytes | None = None, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    """Sends a request as it is given, and reads the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET" if body is None else "POST", path, body, named)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


JSON = {"Content_Type": "application/json"}


def test_the_page_may_run_its_own_script_alone(server: Server) -> None:
    response, page = ask(server, "/")
    policy = response.headers["Content-Security-Policy"]
    assert response.status == 200 and response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert policy == content_security_policy(page.decode()) and "default-src 'none'" in policy
    assert policy.count("sha256-") == 2 and "unsafe" not in policy
    assert b"http" not in page.replace(b"http://www.w3.org/2000/svg", b"")  # nothing comes from elsewhere
    assert response.headers["X-Content-Type-Options"] == "nosniff" and response.headers["Cache-Control"] == "no-store"


def test_answers_over_http_are_those_of_the_explorer(server: Server, explorer: Explorer) -> None:
    for path, expected in (
        ("/api/about", explorer.about()),
        ("/api/items?q=thing+2", {"items": explorer.items("thing 2")}),
        ("/api/sample?number=3", explorer.sample(3)),
    ):
        response, content = ask(server, path)
        assert (response.status, json.loads(content)) == (200, expected)
    question = {"session": ["B003", "B007"], "k": 3, "exclude_session_items": True}
    response, content = ask(server, "/api/rank", json.dumps(question).encode(), **JSON)
    assert response.status == 200
    for found, expected in zip(json.loads(content)["views"], explorer.rank(**question)["views"], strict=True):
        assert [one["id"] for one in found["items"]] == [one["id"] for one in expected["items"]]
        np.testing.assert_allclose([one["lift"] for one in found["items"]], [one["lift"] for one in expected["items"]])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:{port}", "localhost:9999", "[::1]:{port}", "LOCALHOST"])
def test_names_of_this_computer_are_answered(server: Server, host: str) -> None:
    assert ask(server, "/api/about", Host=host.format(port=server.server_port))[0].status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "[::1", ""])
def test_other_names_are_refused_for_a_stranger_may_point_them_here(server: Server, host: str) -> None:
    response, content = ask(server, "/", Host=host)
    assert response.status == 403 and "for this computer alone" in json.loads(content)["error"]


@pytest.mark.parametrize(("origin", "status"), [("http://evil.example", 403), ("null", 403), ("http://localhost", 200)])
def test_pages_from_elsewhere_are_refused(server: Server, origin: str, status: int) -> None:
    assert ask(server, "/api/about", Origin=origin)[0].status == status


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "words"),
    [
        ("/api/rank", b"{}", {"Content_Type": "text/plain"}, 415, "application/json"),
        ("/api/rank", b"{", JSON, 400, "not JSON"),
        ("/api/rank", b"[" * 60_000, JSON, 400, "not JSON"),
        ("/api/rank", b" " * 70_000, JSON, 413, "at most 65536 bytes"),
        ("/api/rank", b'{"session": [1]}', JSON, 400, 'send {"session"'),
        ("/api/rank", b'{"session": ["B003"], "k": true}', JSON, 400, 'send {"session"'),
        ("/api/rank", b'{"session": ["B003"], "x": 1}', JSON, 400, 'send {"session"'),
        ("/api/rank", b'{"session": []}', JSON, 400, "no item that training had"),
        ("/api/rank", None, {}, 404, "there is nothing here"),
        ("/api/sample?number=-1", None, {}, 400, "a whole number"),
        ("/../pyproject.toml", None, {}, 404, "there is nothing here"),
    ],
)
def test_what_is_no_question_gets_one_line(
    server: Server, path: str, body: bytes | None, headers: dict[str, str], status: int, words: str
) -> None:
    response, content = ask(server, path, body, **headers)
    assert response.status == status and words in json.loads(content)["error"]


def test_a_port_that_is_taken_is_an_error(server: Server, explorer: Explorer) -> None:
    with pytest.raises(UserError, match=f"--port={server.server_port} cannot be used .*--port=0 takes a free one"):
        Server(explorer, server.server_port)
