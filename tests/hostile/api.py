"""The functional world behind WSGI, by the rules of the host, with instances of every kind to be found in it."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, unquote

import azure.functions as func

from devhost.app import HttpFunction, index
from devhost.web import Router
from gpulaunch.operations import OPERATIONS
from shared import app as runtime
from shared.auth import Purpose
from tests.functional.scripted import Assigning
from tests.functional.world import ADMIN, World, functions

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]

_PATHS = {operation.path for operation in OPERATIONS}
_TOKENS = 4
"""Of the tokens that a node call gets in turn, two are right, one is another node's, one is none."""


class Api:
    """A WSGI application; a new world after every `fresh`."""

    def __init__(self) -> None:
        found = index(functions().values(), {"AzureWebJobsStorage": "in memory"})
        self._router = Router(one for one in found if isinstance(one, HttpFunction) and f"/{one.route}" in _PATHS)
        self.answers: Counter[tuple[str, int]] = Counter()
        """How many answers each function gave, by status."""
        self.world: World | None = None
        self.ids: list[str] = []
        self._turn = itertools.count()

    def fresh(self) -> World:
        """A world with an instance in each state that tells: ending, ended, failed, lost, ready, starting, queued."""
        self.close()
        world = World(assignments=Assigning())
        faults = {"simulate.no-capacity": "9", "simulate.evict-after": "5", "simulate.teardown-tries": "99"}
        made: list[str] = []
        for labels in ({}, {"simulate.no-capacity": faults["simulate.no-capacity"]}, {}, {"team": "a"}):
            made.append(world.launch(labels=labels, job={"command": ["true"]} if not labels else None))
        world.run(100)
        world.delete(made[0])
        world.run(30)
        for name in ("simulate.teardown-tries", "simulate.evict-after"):
            made.append(world.launch(labels={name: faults[name]}))
        world.run(95)
        world.delete(made[-2])
        made.append(world.launch())
        world.run(60)
        made.append(world.launch())
        self.world, self.ids = world, made
        return world

    def close(self) -> None:
        if self.world is not None:
            errors = self.world.errors
            self.world = None
            runtime.use(None)
            assert errors == []

    def an_instance(self) -> str:
        return self.ids[next(self._turn) % len(self.ids)]

    def headers_for(self, path: str, instance_id: str) -> dict[str, str]:
        """The token that the call wants; for node calls the right one, another instance's, or none."""
        assert self.world is not None
        if "/nodes/" not in path:
            return {"X-Admin-Token": ADMIN}
        turn = next(self._turn) % _TOKENS
        whose = instance_id if turn < 2 else self.ids[0]
        token = self.world.adapters.deriver.derive(whose, 1, Purpose.NODE)
        return {} if turn == _TOKENS - 1 else {"Authorization": f"Bearer {token}"}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        raw = str(environ.get("REQUEST_URI") or environ["PATH_INFO"]).partition("?")[0]
        # An encoded slash stays encoded, as in ASP.NET.
        path = unquote(raw.replace("%2F", "%252F").replace("%2f", "%252f"))
        found = self._router.find(environ["REQUEST_METHOD"], path)
        if found is None:
            start_response("404 Not Found", [])
            return [b""]
        function, parameters = found
        if self.world is None and function.name not in ("show_openapi", "show_endpoint_file_schema"):
            self.fresh()
        length = int(environ.get("CONTENT_LENGTH") or 0)
        headers = {
            name.removeprefix("HTTP_").replace("_", "-"): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
        request = func.HttpRequest(
            environ["REQUEST_METHOD"],
            f"http://localhost{raw}",
            headers=headers,
            params=query,
            route_params=parameters,
            body=environ["wsgi.input"].read(length) if length else b"",
        )
        answer: func.HttpResponse = functions()[function.name].get_user_function()(request)
        self.answers[function.name, answer.status_code] += 1
        body = answer.get_body()
        kind = [] if answer.status_code == 304 else [("Content-Type", str(answer.mimetype))]
        start_response(f"{answer.status_code} Status", [*kind, *answer.headers.items()])
        # Time goes on between requests, so that the instances do as well.
        if self.world is not None:
            self.world.run(1)
        if function.name == "launch_instance" and answer.status_code == 202:
            self.ids = [*self.ids[-20:], str(json.loads(body)["instance_id"])]
        return [body]
