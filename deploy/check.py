"""Use a deployment once it is there: the app answers, sweeps and could launch, or an error says what it lacks."""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

import httpx
import typer

from deploy.arm import Arm, signed_in
from deploy.secrets import DEPLOY_TOKENS, Place, SetupError, ask_for_refresh, refresh_references, wait_for_token, write
from gpulaunch.version import VERSION

_PAUSE: Final = 5.0
_CALL_LIMIT: Final = 60.0
"""Seconds for one call: an instance may have to start for it."""
_ANSWER_LIMIT: Final = 180.0
"""Seconds in which a new version must answer: an instance starts, unpacks the package and reads the vaults."""
_SWEEP_LIMIT: Final = 150.0
"""Sweeps come every half minute; the first one waits for an instance of its own to start."""
_LAUNCH_LIMIT: Final = 720.0
"""An API server that sleeps is up after two minutes, ten at most; the app reads a new token within two."""
_TOKEN_TRIES: Final = 6
_TOKEN_PAUSE: Final = 55.0
"""Seconds, more than between other tries: ten wrong tokens raise an alert; a new one is read within minutes."""
_END_LIMIT: Final = 240.0
"""A simulated launch is ready after 82 seconds, and ends within some more."""
LAUNCH: Final = {"model_name": "Qwen/Qwen2.5-0.5B-Instruct", "gpu": "A10", "max_lifetime_minutes": 10}
"""Of a model that is small and open to all, so that no token of the Hub is needed to find it."""
_NEVER: Final = "1970-01-01T00:00:00Z"
_LOG: Final = "the app's log is in Application Insights: AppExceptions, AppTraces"


@dataclass(frozen=True)
class _Reply:
    """What came back; status 0: nothing did."""

    status: int
    body: Mapping[str, Any]
    """Empty without a JSON object."""
    text: str

    def __str__(self) -> str:
        if self.status == 0:
            return self.text
        # A problem (RFC 9457) says what is wrong; what else answers, by its first line.
        said = self.body.get("detail") or self.text.strip().partition("\n")[0][:200] or "without a body"
        return f"{self.status} {said}"


class DeploymentCheck:
    """Checks one deployment; each step returns a line to show.

    Raises:
        SetupError: every step, when it has waited in vain.
    """

    def __init__(
        self, http: httpx.Client, token: str, sleep: Callable[[float], None], now: Callable[[], datetime]
    ) -> None:
        self._http = http
        self._token = token
        self._sleep = sleep
        self._now = now

    def answers(self) -> str:
        """Wait until the app answers as this version; built for another Python, it answers nothing but 500."""
        last: list[_Reply] = []

        def right() -> bool:
            last[:] = [self._call("GET", "/api/health")]
            return last[0].status == 200 and last[0].body.get("version") == VERSION

        if not self._within(_ANSWER_LIMIT, right):
            raise SetupError(
                f"the app does not answer as version {VERSION} after {_ANSWER_LIMIT:.0f} s: {last[0]}; {_LOG}"
            )
        return f"version {VERSION} answers"

    def sweeps(self) -> str:
        """Wait for a sweep that began after this check: timer, table and queues work."""
        began, last = self._now(), list[str]()

        def swept() -> bool:
            health = self._call("GET", "/api/health").body
            last[:] = health.get("problems", [])
            return datetime.fromisoformat(health.get("swept_at") or _NEVER) > began

        if not self._within(_SWEEP_LIMIT, swept):
            raise SetupError(f"no sweep has ended for {_SWEEP_LIMIT:.0f} s; {_LOG}")
        return "it sweeps" + (f", but: {' '.join(last)}" if last else "")

    def launches(self) -> str:
        """Plan a launch, for which the app asks the API server with its token, and Azure for quota; nothing is written.

        Where launches are simulated, one is made and ended.
        """
        last: list[_Reply] = []
        refused: list[_Reply] = []

        def planned() -> bool:
            last[:] = [self._call("POST", "/api/plans", LAUNCH)]
            if last[0].status == 401:
                refused.append(last[0])
                if len(refused) == _TOKEN_TRIES:
                    raise SetupError(f"the app does not read {DEPLOY_TOKENS} from its vault: {last[0]}; {_LOG}")
                self._sleep(_TOKEN_PAUSE)
            # 503: the API server does not answer.
            passing = last[0].status in (0, 401, 429, 500, 502, 503, 504)
            return not passing and "waking up" not in last[0].body.get("mode_reason", "")

        if not self._within(_LAUNCH_LIMIT, planned):
            raise SetupError(f"no launch is possible after {_LAUNCH_LIMIT:.0f} s: {last[0]}; {_LOG}")
        plan = last[0]
        if plan.status in (403, 409, 422):  # No quota, or a limit of the settings: the deployment itself works.
            return f"a launch would be refused: {plan}"
        if plan.status != 200:
            raise SetupError(f"a plan is refused: {plan}")
        if plan.body["mode"] == "simulation":
            return self._simulated()
        return f"a real launch can be made: {plan.body['mode_reason']}"

    def _simulated(self) -> str:
        made = self._call("POST", "/api/instances/launch", LAUNCH)
        if made.status != 202:
            raise SetupError(f"a simulated launch is refused: {made}")
        path = f"/api/instances/{made.body['instance_id']}"
        try:
            self._wait_for_phase(path, "ready")
        finally:
            ended = self._call("DELETE", path)
        if ended.status not in (200, 202):
            raise SetupError(f"a simulated instance cannot be ended: {ended}")
        self._wait_for_phase(path, "terminated")
        return "a simulated launch became ready and ended"

    def _wait_for_phase(self, path: str, phase: str) -> None:
        last: list[_Reply] = []

        def there() -> bool:
            last[:] = [self._call("GET", path)]
            return last[0].status == 200 and last[0].body["phase"] == phase

        if not self._within(_END_LIMIT, there):
            found = last[0].body["phase"] if last[0].status == 200 else last[0]
            raise SetupError(f"a simulated instance is not {phase} after {_END_LIMIT:.0f} s: {found}; {_LOG}")

    def _within(self, seconds: float, condition: Callable[[], bool]) -> bool:
        waited = 0.0
        while not condition():
            if waited >= seconds:
                return False
            self._sleep(_PAUSE)
            waited += _PAUSE
        return True

    def serves(self, gateway: str) -> str:
        """Wait until the gateway, at its address, has read the endpoints."""
        last: list[_Reply] = []

        def ready() -> bool:
            last[:] = [self._call("GET", f"{gateway}/readyz", with_token=False)]
            return last[0].status == 200

        if not self._within(_ANSWER_LIMIT, ready):
            raise SetupError(f"the gateway is not ready after {_ANSWER_LIMIT:.0f} s: {last[0]}; see its log")
        return "the gateway is ready"

    def _call(self, method: str, path: str, body: object = None, *, with_token: bool = True) -> _Reply:
        """Call the app with the check's token, or any address without one."""
        headers = {"Authorization": f"Bearer {self._token}"} if with_token else {}
        try:
            answer = self._http.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            return _Reply(0, {}, f"{type(error).__name__}: {error}")
        try:
            found: Any = answer.json()
        except ValueError:
            found = None
        return _Reply(answer.status_code, cast("dict[str, Any]", found) if isinstance(found, dict) else {}, answer.text)


def check_deployment(
    arm: Arm, place: Place, http: httpx.Client, sleep: Callable[[float], None], now: Callable[[], datetime]
) -> Iterator[str]:
    """Check a deployment with a token that is made for this once; yield a line for each step.

    Raises:
        SetupError: A step has waited in vain, or the app cannot read its vaults.
    """
    token = secrets.token_urlsafe(32)
    write(arm, place, DEPLOY_TOKENS, token)
    try:
        states = refresh_references(arm, place, sleep)
        if wrong := [f"{name}: {state}" for name, state in sorted(states.items()) if state != "Resolved"]:
            raise SetupError(f"the app cannot read from the vaults: {', '.join(wrong)}")
        checks = DeploymentCheck(http, token, sleep, now)
        for step in (checks.answers, checks.sweeps, checks.launches):
            yield step()
        if place.gateway_url:
            yield checks.serves(place.gateway_url)
    finally:
        # The next one is not shown anywhere.
        write(arm, place, DEPLOY_TOKENS, secrets.token_urlsafe(32))
        ask_for_refresh(arm, place)


def check() -> None:
    """Use the deployment: its app answers as this version, sweeps, and could launch."""
    arm, place = Arm(signed_in()), Place.of(os.environ)
    if os.environ.get("GPULAUNCH_OWN_SKYPILOT", "true").lower() == "true":
        wait_for_token(arm, place, time.sleep)
    with httpx.Client(base_url=place.url, timeout=_CALL_LIMIT) as http:
        for line in check_deployment(arm, place, http, time.sleep, lambda: datetime.now(UTC)):
            typer.echo(line)
