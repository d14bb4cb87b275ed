"""GET /api/costs."""

import azure.functions as func

from functions.http import operation, reply
from gpulaunch import operations

bp = func.Blueprint()


@operation(bp, operations.COSTS)
def show_costs(req: func.HttpRequest) -> func.HttpResponse:
    """What was spent, as JSON or CSV."""
    from shared.app import runtime
    from shared.control.costs import as_csv, costs_answer

    answer = costs_answer(runtime(), dict(req.params))
    if req.params.get("format") != "csv":
        return reply(answer)
    name = f"gpulaunch-costs-{answer.first_day}-{answer.last_day}-by-{answer.by}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return func.HttpResponse(as_csv(answer), headers=headers, mimetype="text/csv", charset="utf-8")
