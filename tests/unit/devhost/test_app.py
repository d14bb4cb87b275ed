from typing import Any

import azure.functions as func
import pytest

from devhost.app import HttpFunction, QueueFunction, TimerFunction, index
from devhost.config import HostError
from gpulaunch.models.base import Stored
from shared.domain.messages import AlertMessage, ProbeMessage, StepMessage
from tests.functional.world import functions

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
    http, queue, timer = index(app.get_functions(), {})
    assert isinstance(http, HttpFunction)
    assert (http.name, http.route, http.methods) == ("item", "items/{id}", frozenset({"GET", "POST"}))
    assert isinstance(queue, QueueFunction)
    assert (queue.queue, queue.argument) == ("launches", "msg")
    assert isinstance(timer, TimerFunction)
    assert (timer.name, timer.seconds, timer.offset) == ("sweep", 30, 0)


def test_a_daily_schedule_should_be_a_day_with_an_offset() -> None:
    app = func.FunctionApp()

    @app.timer_trigger("timer", "0 15 3 * * *")
    def backup(timer: func.TimerRequest) -> None: ...

    assert backup
    (found,) = index(app.get_functions(), {})
    assert isinstance(found, TimerFunction)
    assert (found.seconds, found.offset) == (86_400, 3 * 3600 + 15 * 60)


def test_the_host_should_refuse_none_of_this_projects_functions() -> None:
    names = [one.name for one in index(functions().values(), {})]
    assert {"launch_instance", "web_home", "provisioning", "teardown", "health", "sweep", "backup"} <= set(names)


@pytest.mark.parametrize("kind", [StepMessage, ProbeMessage, AlertMessage])
def test_no_field_of_a_message_should_overwrite_what_the_host_knows_of_it(kind: type[Stored]) -> None:
    """The host puts both into the same binding data, without regard to case."""
    of_the_host = {"id", "dequeuecount", "expirationtime", "insertiontime", "nextvisibletime", "popreceipt"}
    assert not of_the_host & {name.lower() for name in kind.model_fields}


@pytest.mark.parametrize("route", ["admin/instances", "administration", "/Admin", "runtime", "runtimes/x"])
def test_a_reserved_route_should_be_refused(route: str) -> None:
    assert refused(app_with(("one", route, None))).startswith(
        f"function 'one': the route '{route.strip('/')}' conflicts"
    )


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
    assert fault == "function 'two': the route 'Items/{id}' conflicts with the route of function 'one'"
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
    assert [one.name for one in indexed] == ["one"]


def takes_msg(msg: func.QueueMessage) -> None: ...


def takes_timer(timer: func.TimerRequest) -> None: ...


@pytest.mark.parametrize(
    "schedule", ["0 * * * * *", "*/7 * * * * *", "*/0 * * * * *", "61 * * * * *", "*/30 * * * *", "*/30 0 * * * *", ""]
)
def test_another_schedule_than_every_so_many_seconds_should_be_refused(schedule: str) -> None:
    app = func_app()
    app.timer_trigger("timer", schedule)(takes_timer)
    assert f"devhost knows schedules like '*/30 * * * * *' and '0 15 3 * * *' only, not '{schedule}'" in refused(app)


@pytest.mark.parametrize(
    "route", ["a/{b", "a/b}", "{}", "{a}/{a}", "{a:int}", "{a?}", "{a=1}", "{*rest}/a", "a{*rest}", "{name}.{kind}"]
)
def test_a_template_that_devhost_does_not_know_should_be_refused(route: str) -> None:
    assert f"not '{route}'" in refused(app_with(("one", route, None)))


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
    assert "function 'one': the parameters must be the bindings, which are 'req', not ['id', 'req']" in fault
    assert "function 'two': the parameters must be the bindings, which are 'req', not ['request']" in fault
    assert "function 'three': the parameters must be the bindings, which are 'req', not []" in fault
