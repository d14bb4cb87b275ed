"""A small app for the tests of the development host: what happens is appended to the file RESULTS."""

# pyright: reportUnknownMemberType=false
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

if "DETACHED" in os.environ:
    # A server that leaves session and parent.
    server = (
        "import os, sys, time; os.fork() and os._exit(0); os.setsid()\n"
        "open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    )
    subprocess.run([sys.executable, "-c", server, os.environ["DETACHED"]], check=True)


def record(**entry: object) -> None:
    with Path(os.environ["RESULTS"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


@app.route("api/health", methods=["GET"])
def health(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse('{"status": "ok"}', mimetype="application/json")


@app.route("api/echo/{id}")
def echo(req: func.HttpRequest) -> func.HttpResponse:
    body = {
        "method": req.method,
        "url": req.url,
        "query": dict(req.params),
        "route": dict(req.route_params),
        "body": len(req.get_body()),
    }
    headers = {"Set-Cookie": "a=1; Path=/", "X-Several": "yes"}
    return func.HttpResponse(json.dumps(body), mimetype="application/json", status_code=201, headers=headers)


@app.route("api/broken")
def broken(req: func.HttpRequest) -> func.HttpResponse:
    raise RuntimeError("broken on purpose")


@app.route("api/slow")
def slow(req: func.HttpRequest) -> func.HttpResponse:
    record(slow=req.params["seconds"])
    time.sleep(float(req.params["seconds"]))
    return func.HttpResponse("done")


@app.queue_trigger("msg", os.environ["WORK_QUEUE"], "AzureWebJobsStorage")
def work(msg: func.QueueMessage) -> None:
    text = msg.get_body().decode()
    record(work=text, dequeue=msg.dequeue_count)
    if text == "fail":
        raise RuntimeError("failed on purpose")
    if text.startswith("sleep"):
        time.sleep(float(text.split()[1]))
        record(slept=text)


@app.timer_trigger("timer", "*/1 * * * * *")
def tick(timer: func.TimerRequest) -> None:
    record(tick=timer.past_due)
