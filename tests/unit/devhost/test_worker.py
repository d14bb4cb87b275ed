import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import azure.functions as func
import pytest

from devhost.app import Function
from devhost.config import HostError
from devhost.invoker import InvocationError, Worker

APP = """
import os, time
import azure.functions as func

app = func.FunctionApp()

@app.route("echo")
def echo(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(f"{os.getpid()} {req.get_body().decode()}", headers={"X": req.headers["Y"]})

@app.route("broken")
def broken(req: func.HttpRequest) -> func.HttpResponse:
    raise RuntimeError(req.get_body().decode("utf-8", "surrogateescape"))

@app.route("slow")
def slow(req: func.HttpRequest) -> func.HttpResponse:
    time.sleep(60)
"""
Calls = dict[str, Function]


@asynccontextmanager
async def working(folder: Path, timeout: float = 60, app: str = APP) -> AsyncGenerator[tuple[Worker, Calls]]:
    (folder / "function_app.py").write_text(app, "utf-8")
    worker = Worker(folder, 4, timeout)
    functions = await worker.start()
    answers = asyncio.create_task(worker.run())
    try:
        yield worker, {one.name: one for one in functions}
    finally:
        answers.cancel()
        await asyncio.gather(answers, return_exceptions=True)
        await worker.stop()


def request(body: bytes = b"") -> func.HttpRequest:
    return func.HttpRequest("GET", "http://x/", headers={"y": "1"}, body=body)


async def pid(worker: Worker, calls: Calls) -> int:
    return int((await worker(calls["echo"], request())).get_body().split()[0])


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(limited())


def test_a_function_should_run_in_a_process_of_its_own_and_its_failure_be_told_apart(tmp_path: Path) -> None:
    async def test() -> None:
        async with working(tmp_path) as (worker, calls):
            answer = await worker(calls["echo"], request(b"x" * 200_000))
            there, _, body = answer.get_body().partition(b" ")
            assert int(there) != os.getpid()
            assert (len(body), answer.headers["X"]) == (200_000, "1")
            with pytest.raises(InvocationError, match="RuntimeError: on purpose"):
                await worker(calls["broken"], request(b"on purpose"))

    run(test)


def test_a_worker_that_dies_should_fail_its_calls_and_be_replaced(tmp_path: Path) -> None:
    async def test() -> None:
        async with working(tmp_path) as (worker, calls):
            first = await pid(worker, calls)
            slow = [asyncio.create_task(worker(calls["slow"], request())) for _ in range(3)]
            await asyncio.sleep(0)
            os.kill(first, signal.SIGKILL)
            ended = await asyncio.gather(*slow, return_exceptions=True)
            assert {str(one) for one in ended} == {"the worker ended under the call"}
            assert await pid(worker, calls) != first

    run(test)


@pytest.mark.parametrize(("function", "body"), [("slow", b""), ("broken", b"\xff")])
def test_what_never_answers_should_end_with_its_worker_after_function_timeout(
    tmp_path: Path, function: str, body: bytes
) -> None:
    """A lone surrogate in the text of an exception is one such thing: the worker can't serialize it."""

    async def test() -> None:
        async with working(tmp_path, timeout=2) as (worker, calls):
            first = await pid(worker, calls)
            with pytest.raises(InvocationError, match="functionTimeout"):
                await worker(calls[function], request(body))
            assert await pid(worker, calls) != first

    run(test)


@pytest.mark.parametrize(
    ("app", "fault"),
    [
        ("import nowhere", "function_app.py cannot be indexed: ModuleNotFoundError"),
        ("import os; os._exit(3)", r"the worker ended while it loaded the app \(status 3\)"),
    ],
)
def test_an_app_that_cannot_be_loaded_should_be_refused(tmp_path: Path, app: str, fault: str) -> None:
    async def test() -> None:
        with pytest.raises(HostError, match=fault):
            async with working(tmp_path, app=app):
                pass

    run(test)
