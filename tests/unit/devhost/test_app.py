from typing import Any

import azure.functions as func
import pytest

from devhost.app import index
from devhost.config import HostError

STORAGE = "AzureWebJobsStorage"


def http(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse()


def func_app() -> Any:
    """Untyped: the library's decorators have partly unknown types."""
    return func.FunctionApp()


def app_with(*functions: tuple[str, str | None, list[str] | None]) -> Any:
    app = func_app()
    for name, route, methods in functions:
        app.function_name(name)(app.route(route, methods=methods)(http))
    return app


def refused(app: Any) -> str:
    with pytest.raises(HostError) as error:
        index(app.get_functions(), {})
    return str(error.value)


def test_every_kind_of_trigger_should_be_indexed() -> None:
    app = func_app()

    @app.route("items/{id}", methods=["GET", "POST"], auth_level=func.AuthLevel.ANONYMOUS)
    def item(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
        return func.HttpResponse()

    @app.queue_trigger("msg", "launches", STORAGE)
    def launches(msg: func.QueueMessage) -> None: ...

    @app.timer_trigger("timer", "*/30 * * * * *")
    def sweep(timer: func.TimerRequest) -> None: ...

    assert all((item, launches, sweep))
    indexed = index(app.get_functions(), {})
    assert len(indexed) == 3
    assert [(one.name, one.route, one.methods, one.takes_context) for one in indexed.http] == [
        ("item", "items/{id}", frozenset({"GET", "POST"}), True)
    ]
    assert [(one.queue, one.takes_context) for one in indexed.queues] == [("launches", False)]
    assert [one.name for one in indexed.timers] == ["sweep"]


@pytest.mark.parametrize("route", ["admin/instances", "administration", "/Admin", "runtime", "runtimes/x"])
def test_a_reserved_route_should_be_refused(route: str) -> None:
    assert refused(app_with(("one", route, None))).startswith(f"function 'one': the route '{route}' conflicts")


def test_a_reserved_name_without_route_should_be_refused() -> None:
    assert "conflicts with one or more built in routes" in refused(app_with(("adminPage", None, None)))


@pytest.mark.parametrize("route", ["instances/admin", "a-runtime", "{page}"])
def test_a_reserved_word_elsewhere_should_not_be_refused(route: str) -> None:
    assert len(index(app_with(("one", route, None)).get_functions(), {})) == 1


@pytest.mark.parametrize("name", ["1st", "with space", "host", "a" * 129, "ümlaut"])
def test_a_bad_function_name_should_be_refused(name: str) -> None:
    assert "the name must match" in refused(app_with((name, "x", None)))


def test_the_same_route_and_method_twice_should_be_refused() -> None:
    fault = refused(app_with(("one", "items/{id}", ["GET"]), ("two", "Items/{id}/", ["GET", "POST"])))
    assert fault == "function 'two': the route 'Items/{id}/' conflicts with the route of function 'one'"
    assert "conflicts" in refused(app_with(("one", "items", None), ("two", "items", ["GET"])))


def test_the_same_route_with_other_methods_should_not_be_refused() -> None:
    assert len(index(app_with(("one", "items", ["GET"]), ("two", "items", ["POST"])).get_functions(), {})) == 2


def test_every_fault_should_get_its_own_line() -> None:
    fault = refused(app_with(("one", "admin", None), ("two", "a/{b", None), ("three", "ok", None)))
    assert [line.split(":")[0] for line in fault.splitlines()] == ["function 'one'", "function 'two'"]


def test_no_functions_should_be_refused() -> None:
    assert refused(func_app()).startswith("0 functions found")


def test_a_disabled_function_should_be_left_out() -> None:
    settings = {"AzureWebJobs.two.Disabled": "true"}
    indexed = index(app_with(("one", "a", None), ("two", "b", None)).get_functions(), settings)
    assert [one.name for one in indexed.http] == ["one"]


def takes_msg(msg: func.QueueMessage) -> None: ...


def takes_timer(timer: func.TimerRequest) -> None: ...


def test_a_bad_schedule_should_be_refused() -> None:
    app = func_app()
    app.timer_trigger("timer", "61 * * * * *")(takes_timer)
    assert "'61 * * * * *' is not a valid schedule" in refused(app)


def test_a_bad_queue_name_should_be_refused() -> None:
    app = func_app()
    app.queue_trigger("msg", "under_score", STORAGE)(takes_msg)
    assert "'under_score' is not a valid queue name" in refused(app)


def test_another_connection_should_be_refused() -> None:
    app = func_app()
    app.queue_trigger("msg", "launches", "Other")(takes_msg)
    assert "not 'Other'" in refused(app)


def test_an_asynchronous_function_should_be_refused() -> None:
    app = func_app()

    @app.route("a")
    async def one(req: func.HttpRequest) -> func.HttpResponse: ...

    assert one
    assert "synchronous functions only" in refused(app)


def test_an_output_binding_should_be_refused() -> None:
    app = func_app()

    def two(msg: Any, out: Any) -> None: ...

    app.queue_output("out", "other", "")(app.queue_trigger("msg", "launches", STORAGE)(two))
    assert "devhost does not support the binding type 'queue'" in refused(app)


def test_another_trigger_should_be_refused() -> None:
    app = func_app()
    app.blob_trigger("msg", "box/{name}", "")(takes_msg)
    assert "devhost does not support the trigger type 'blobTrigger'" in refused(app)


def test_a_binding_name_with_an_underscore_should_be_refused() -> None:
    app = func_app()

    def one(my_msg: Any) -> None: ...

    app.queue_trigger("my_msg", "launches", STORAGE)(one)
    assert "the host refuses the binding name 'my_msg'" in refused(app)


def test_parameters_should_be_bindings_and_bindings_parameters() -> None:
    app = func_app()

    def one(req: Any, id: Any) -> None: ...

    def two(request: Any) -> None: ...

    def three() -> None: ...

    for route, function in (("a/{id}", one), ("b", two), ("c", three)):
        app.route(route)(function)
    fault = refused(app)
    assert "function 'one': the parameters ['id'] are declared in Python" in fault
    assert "function 'two': the parameters ['request'] are declared" in fault
    assert "function 'three': the binding 'req' is not a parameter" in fault
