from typing import Any

import azure.functions as func
import pytest

from devhost.app import index
from devhost.config import HostError

SETTINGS = {"QUEUE": "launches", "SCHEDULE": "0 */1 * * * *"}


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


def refused(app: Any, settings: dict[str, str] | None = None) -> str:
    with pytest.raises(HostError) as error:
        index(app.get_functions(), SETTINGS if settings is None else settings)
    return str(error.value)


def test_every_kind_of_trigger_should_be_indexed() -> None:
    app = func_app()

    @app.route("items/{id:int}", methods=["GET", "POST"], auth_level=func.AuthLevel.ANONYMOUS)
    async def item(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
        return func.HttpResponse()

    @app.queue_trigger("msg", "%QUEUE%", "")
    def launches(msg: func.QueueMessage) -> None: ...

    @app.timer_trigger("timer", "%SCHEDULE%", run_on_startup=True)
    def sweep(timer: func.TimerRequest) -> None: ...

    assert all((item, launches, sweep))
    indexed = index(app.get_functions(), SETTINGS)
    assert len(indexed) == 3
    assert [
        (one.name, one.route, one.methods, one.auth_level, one.is_async, one.takes_context) for one in indexed.http
    ] == [("item", "items/{id:int}", frozenset({"GET", "POST"}), "anonymous", True, True)]
    assert [(one.queue, one.connection, one.is_async) for one in indexed.queues] == [
        ("launches", "AzureWebJobsStorage", False)
    ]
    assert [(one.expression, one.run_on_startup, one.use_monitor) for one in indexed.timers] == [
        ("0 */1 * * * *", True, True)
    ]


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
    assert "is no second" in refused(app)


@pytest.mark.parametrize(
    ("schedule", "monitored"),
    [("*/30 * * * * *", False), ("00:00:59", False), ("0 * * * * *", True), ("00:01:00", True)],
)
def test_a_timer_of_more_than_one_run_a_minute_should_not_be_monitored(schedule: str, monitored: bool) -> None:
    app = func_app()
    app.timer_trigger("timer", schedule)(takes_timer)
    assert [one.use_monitor for one in index(app.get_functions(), {}).timers] == [monitored]


def test_an_unresolved_setting_should_be_refused() -> None:
    app = func_app()
    app.queue_trigger("msg", "%NOWHERE%", "")(takes_msg)
    assert "'%NOWHERE%' does not resolve" in refused(app)


def test_a_bad_queue_name_should_be_refused() -> None:
    app = func_app()
    app.queue_trigger("msg", "under_score", "")(takes_msg)
    assert "'under_score' is no queue name" in refused(app)


def test_an_output_binding_should_be_refused() -> None:
    app = func_app()

    def two(msg: Any, out: Any) -> None: ...

    app.queue_output("out", "other", "")(app.queue_trigger("msg", "launches", "")(two))
    assert "the binding type 'queue' is not supported" in refused(app)


def test_another_trigger_should_be_refused() -> None:
    app = func_app()
    app.blob_trigger("msg", "box/{name}", "")(takes_msg)
    assert "the trigger type 'blobTrigger' is not supported" in refused(app)


def test_a_binding_name_with_an_underscore_should_be_refused() -> None:
    app = func_app()

    def one(my_msg: Any) -> None: ...

    app.queue_trigger("my_msg", "launches", "")(one)
    assert "the binding name 'my_msg' is refused" in refused(app)


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
    assert "function 'three': the binding 'req' is no parameter" in fault


def test_annotations_should_fit_the_trigger() -> None:
    app = func_app()

    @app.route("a")
    def optional(req: func.HttpRequest) -> func.HttpResponse | None: ...

    @app.queue_trigger("msg", "launches", "")
    def wrong(msg: func.HttpRequest) -> None: ...

    assert optional
    assert wrong
    fault = refused(app)
    assert "function 'optional': the annotation of 'return' does not fit" in fault
    assert "function 'wrong': the annotation of 'msg' does not fit a queueTrigger" in fault
