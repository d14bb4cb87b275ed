"""Applications: OpenAI's own client, many at once, as a program in vLLM's environment, which has that client."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.stack.processes import Processes, StackError
from tests.e2e.stack.vllm import Vllm

STOP_SECONDS = 120
"""For the requests that are under way at the end; a held one may wait for a node."""

# One line when a stream begins, and one for each request that is over. `seed` names a request: vLLM writes it into its
# log. Every second client streams. Retries are the client's own, with its defaults, as an application has them.
_PROGRAM = """
import asyncio, itertools, json, os, random, sys, time
import openai

url, key, model, clients, tokens, pause = sys.argv[1:7]
seeds, stopping = itertools.count(1), asyncio.Event()

async def ask(client, stream):
    seed = next(seeds)
    seen = {"seed": seed, "stream": stream, "began": time.time(), "first": None, "error": None, "code": None}
    asked = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": int(tokens)}
    try:
        sent = client.chat.completions.with_raw_response.create(
            **asked, seed=seed, stream=stream, extra_body={"ignore_eos": True}
        )
        raw = await sent
        answer = raw.parse()
        seen |= {"instance": raw.headers.get("x-gpulaunch-instance"), "retries": raw.retries_taken,
                 "attempts": int(raw.headers.get("x-gpulaunch-attempts", 0)),
                 "held": int(raw.headers.get("x-gpulaunch-held-ms", 0)) / 1000}
        if stream:
            finish = None
            async for chunk in answer:
                if seen["first"] is None:
                    seen["first"] = time.time()
                    print(json.dumps({"opened": seed, "on": seen["instance"]}), flush=True)
                finish = chunk.choices[0].finish_reason if chunk.choices else finish
        else:
            seen["first"] = time.time()
            finish = answer.choices[0].finish_reason
        seen["finish"] = finish
    except Exception as error:
        seen |= {"error": f"{type(error).__name__}: {error}", "code": getattr(error, "code", None)}
    print(json.dumps(seen | {"ended": time.time()}), flush=True)

async def application(client, number):
    while not stopping.is_set():
        await ask(client, number % 2 == 0)
        try:
            await asyncio.wait_for(stopping.wait(), random.uniform(0.5, 1.5) * float(pause))
        except TimeoutError:
            pass

async def main():
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, lambda: os.read(0, 1) or (loop.remove_reader(sys.stdin), stopping.set()))
    async with openai.AsyncOpenAI(base_url=url, api_key=key) as client:
        await asyncio.gather(*(application(client, number) for number in range(int(clients))))

asyncio.run(main())
"""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an application saw of one request. Times are those of `time.time`."""

    seed: int
    stream: bool
    began: float
    first: float | None
    """When the first chunk of a stream came, or the answer."""
    ended: float
    error: str | None
    code: str | None
    """Of the error, as the gateway or a node gives it."""
    instance: str | None = None
    """That answered; None where no answer began."""
    attempts: int = 0
    """Nodes that the gateway tried."""
    retries: int = 0
    """Of the client itself."""
    held: float = 0.0
    finish: str | None = None
    """Why the text ended: `length` where all of it came."""


@dataclass
class Applications:
    """Some applications that ask an endpoint again and again, until they are stopped."""

    processes: Processes
    environment: Vllm
    url: str
    key: str
    model: str
    clients: int = 32
    tokens: int = 100
    pause: float = 4.0
    """Seconds between the end of a request and the next one of the same application, on average."""
    _process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        given = [self.url, self.key, self.model, str(self.clients), str(self.tokens), str(self.pause)]
        self.processes.logs.mkdir(parents=True, exist_ok=True)
        with (self.processes.logs / "applications.jsonl").open("wb") as output:
            self._process = subprocess.Popen(
                [str(self.environment.python), "-c", _PROGRAM, *given],
                env=self.processes.environment(),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def seen(self) -> list[Asked]:
        """Of all requests that are over. Raises StackError if the program wrote anything else."""
        return [Asked(**line) for line in self._lines() if "opened" not in line]

    def open_streams(self, instance_id: str) -> int:
        """How many streams of a node have begun and are not over."""
        lines = self._lines()
        over = {line["seed"] for line in lines if "seed" in line}
        return sum(line["on"] == instance_id and line["opened"] not in over for line in lines if "opened" in line)

    def _lines(self) -> list[dict[str, Any]]:
        lines = (self.processes.logs / "applications.jsonl").read_text().splitlines(keepends=True)
        try:
            return [json.loads(line) for line in lines if line.endswith("\n")]
        except ValueError as error:
            raise StackError(f"the applications failed: {''.join(lines)[-1000:]}") from error

    def stop(self) -> list[Asked]:
        """Let the requests under way end, and return what became of each. Raises StackError if they do not end."""
        if self._process is None or self._process.stdin is None:
            raise StackError("the applications have not been started")
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise StackError(f"requests did not end within {STOP_SECONDS} s") from error
        return self.seen()

    def kill(self) -> None:
        if self._process is not None:
            self.processes.kill(self._process)
