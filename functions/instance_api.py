"""GET and DELETE below /api/instances."""

import azure.functions as func

from functions.http import instance_id, operation, reply, reply_if_changed
from gpulaunch import operations

bp = func.Blueprint()


@operation(bp, operations.LIST)
def list_instances(req: func.HttpRequest) -> func.HttpResponse:
    """A page of instances."""
    from shared.app import runtime
    from shared.control.queries import list_page

    page, marks = list_page(runtime(), dict(req.params))
    return reply_if_changed(req, page, marks)


@operation(bp, operations.SHOW)
def show_instance(req: func.HttpRequest) -> func.HttpResponse:
    """One instance."""
    from shared.api.views import instance_view
    from shared.app import runtime
    from shared.control.queries import find

    parts = runtime()
    found = find(parts, instance_id(req))
    return reply_if_changed(req, instance_view(found.record, parts.clock.now()), [found.etag])


@operation(bp, operations.EVENTS)
def instance_events(req: func.HttpRequest) -> func.HttpResponse:
    """An instance's timeline."""
    from gpulaunch.models.instances import STARTING
    from shared.api.views import event_list
    from shared.app import runtime
    from shared.control.phase_estimates import expected
    from shared.control.queries import find, only_known, whole_number

    parts = runtime()
    query = dict(req.params)
    only_known(query, ("after",))
    after = whole_number(query, "after", -1, -1, 1_000_000)
    found = find(parts, instance_id(req))
    events = parts.store.events(found.record.instance_id, after=after)
    spans = expected(parts, found.record) if found.record.phase in STARTING else None
    return reply_if_changed(req, event_list(found.record, events, parts.clock.now(), spans), [found.etag, str(after)])


@operation(bp, operations.LOGS)
def instance_logs(req: func.HttpRequest) -> func.HttpResponse:
    """The last log lines of an instance's node."""
    from shared.api.views import log_answer
    from shared.app import runtime
    from shared.control.queries import find

    return reply(log_answer(find(runtime(), instance_id(req)).record))


@operation(bp, operations.CREDENTIALS)
def instance_credentials(req: func.HttpRequest) -> func.HttpResponse:
    """Address and key of a ready endpoint; not to be cached anywhere."""
    from shared.api.views import credentials
    from shared.app import runtime
    from shared.control.queries import find

    parts = runtime()
    answer = credentials(parts, find(parts, instance_id(req)).record)
    return reply(answer, headers={"Cache-Control": "no-store"})


@operation(bp, operations.END)
def end_instance(req: func.HttpRequest) -> func.HttpResponse:
    """Begin to end an instance."""
    from shared.api.views import instance_view
    from shared.app import runtime
    from shared.control.terminate import end_instance as end

    parts = runtime()
    record = end(parts, instance_id(req))
    location = {"Location": f"/api/instances/{record.instance_id}"}
    return reply(instance_view(record, parts.clock.now()), 202, location)
