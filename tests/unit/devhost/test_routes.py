import pytest

from devhost.routes import Route, Router


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("api/health", "/api/health", {}),
        ("api/health", "/API/Health/", {}),
        ("items/{id}", "/items/a b", {"id": "a b"}),
        ("a/{x}/b/{y}", "/a/1/b/2", {"x": "1", "y": "2"}),
        ("/", "/", {}),
        ("api/health", "/api/healthy", None),
        ("api/health", "/api", None),
        ("items/{id}", "/items", None),
        ("items/{id}", "/items/a/b", None),
        ("a.b", "/axb", None),
    ],
)
def test_a_route_should_match_whole_segments(template: str, path: str, expected: dict[str, str] | None) -> None:
    assert Route(template).match(path) == expected


@pytest.mark.parametrize(
    "template", ["a/{b", "a/b}", "{}", "{a}/{a}", "{a:int}", "{a?}", "{a=1}", "{*rest}", "{name}.{kind}"]
)
def test_a_template_that_devhost_does_not_know_should_be_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Route(template)


def router(*routes: tuple[str, str]) -> Router[str]:
    entries = [(Route(route), frozenset(methods.split()), f"{methods} {route}".strip()) for route, methods in routes]
    return Router(entries)


def test_text_should_be_tried_before_parameters() -> None:
    routes = router(("items/{id}", ""), ("items/new", ""), ("{kind}/{id}/x", ""), ("items/{id}/x", ""))
    found = [routes.find("GET", path) for path in ("/items/new", "/items/q", "/items/q/x", "/else/q/x")]
    assert [one and one[0] for one in found] == ["items/new", "items/{id}", "items/{id}/x", "{kind}/{id}/x"]


def test_one_route_should_serve_each_method_by_its_own_function() -> None:
    routes = router(("items", "GET"), ("items", "POST"))
    assert routes.find("POST", "/items") == ("POST items", {})


@pytest.mark.parametrize("method", ["DELETE", "HEAD"])
def test_a_wrong_method_should_not_match(method: str) -> None:
    assert router(("items", "GET")).find(method, "/items") is None
