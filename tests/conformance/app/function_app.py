"""An app that must index under Microsoft's worker."""

# pyright: reportUnknownMemberType=false
import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route("health", methods=["GET"])
def health(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(f"{req.method} {req.url}", headers={"Set-Cookie": "a=b; Max-Age=5"})


@app.route("async", methods=["GET"])
async def waits(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    return func.HttpResponse(context.invocation_id, status_code=202)


@app.route("broken", methods=["GET"])
def broken(req: func.HttpRequest) -> func.HttpResponse:
    raise RuntimeError("broken on purpose")


@app.queue_trigger("msg", "work", "AzureWebJobsStorage")
def work(msg: func.QueueMessage) -> None:
    if msg.dequeue_count != 1 or not msg.id or msg.insertion_time is None:
        raise RuntimeError("metadata are missing")
    if msg.get_body() == b"fail":
        raise RuntimeError("failed on purpose")


@app.timer_trigger("timer", "0 */5 * * * *")
def tick(timer: func.TimerRequest) -> None:
    if timer.past_due:
        raise RuntimeError("not past due")
