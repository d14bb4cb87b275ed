import pytest

from devhost.routes import Route, Router


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("api/health", "/api/health", {}),
        ("api/health", "/API/Health/", {}),
        ("items/{id}", "/items/a b", {"id": "a b"}),
        ("items/{id:int}", "/items/-12", {"id": "-12"}),
        ("items/{id:int:min(5)}", "/items/5", {"id": "5"}),
        (
            "items/{id:guid}",
            "/items/4b2f6ef0-3c4f-4c58-8a5e-0d8e6c0a0c6e",
            {"id": "4b2f6ef0-3c4f-4c58-8a5e-0d8e6c0a0c6e"},
        ),
        ("items/{id:length(2,3)}", "/items/abc", {"id": "abc"}),
        (r"items/{id:regex(^(inst|node)-\d{{2}}$)}", "/items/inst-42", {"id": "inst-42"}),
        ("items/{id?}", "/items", {}),
        ("items/{id=7}", "/items", {"id": "7"}),
        ("items/{id:int?}", "/items/4", {"id": "4"}),
        ("files/{*rest}", "/files/a/b.txt", {"rest": "a/b.txt"}),
        ("files/{*rest}", "/files", {}),
        ("{name}.{kind}", "/app.css", {"name": "app", "kind": "css"}),
        ("a/{x}/b/{y}", "/a/1/b/2", {"x": "1", "y": "2"}),
        ("/", "/", {}),
    ],
)
def test_a_route_should_match(template: str, path: str, expected: dict[str, str]) -> None:
    assert Route(template).match(path) == expected


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("api/health", "/api/healthy"),
        ("api/health", "/api"),
        ("items/{id}", "/items"),
        ("items/{id}", "/items/a/b"),
        ("items/{id:int}", "/items/a"),
        ("items/{id:int}", "/items/3000000000"),
        ("items/{id:range(1,5)}", "/items/6"),
        ("items/{id:alpha}", "/items/a1"),
        ("items/{id:bool}", "/items/yes"),
        ("items/{id:maxlength(2)}", "/items/abc"),
        (r"items/{id:regex(^\d+$)}", "/items/x"),
        ("{name}.{kind}", "/app"),
    ],
)
def test_a_route_should_not_match(template: str, path: str) -> None:
    assert Route(template).match(path) is None


@pytest.mark.parametrize("template", ["a/{b", "a/b}", "{*rest}/x", "{a}/{A}", "{a:nonsense}", "{a:min(x)}", "{}"])
def test_a_bad_template_should_be_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Route(template)


def router(*routes: tuple[str, str]) -> Router[str]:
    entries = [(Route(route), frozenset(methods.split()), f"{methods} {route}".strip()) for route, methods in routes]
    return Router(entries)


def test_text_should_be_tried_before_parameters_and_constraints_before_none() -> None:
    routes = router(
        ("{*rest}", ""), ("items/{id}", ""), ("items/{id:int}", ""), ("items/new", ""), ("{kind}/{id}/x", "")
    )
    found = [routes.find("GET", path) for path in ("/items/new", "/items/4", "/items/q", "/items/q/x", "/else")]
    assert [one and one[0] for one in found] == [
        "items/new",
        "items/{id:int}",
        "items/{id}",
        "{kind}/{id}/x",
        "{*rest}",
    ]


def test_one_route_should_serve_each_method_by_its_own_function() -> None:
    routes = router(("items", "GET"), ("items", "POST"))
    assert routes.find("POST", "/items") == ("POST items", {})
    assert routes.find("HEAD", "/items") == ("GET items", {})


def test_a_wrong_method_should_not_match() -> None:
    routes = router(("items", "POST"))
    assert routes.find("DELETE", "/items") is None
    assert routes.find("HEAD", "/items") is None
    assert routes.refuses_head("/items")
    assert not routes.refuses_head("/other")
