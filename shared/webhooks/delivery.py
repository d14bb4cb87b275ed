"""Delivers alerts: from a message of the alerts queue to a POST."""

import base64
import hashlib
import hmac
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import httpx
from pydantic import SecretStr

from gpulaunch.deadlines import within
from shared.clock import Clock
from shared.domain.errors import MessageError
from shared.domain.messages import AlertMessage
from shared.domain.webhook import Webhook, signing_key
from shared.queues import ALERTS
from shared.storage.base import InstanceStore, Queues, UnreadableRecordError
from shared.webhooks.alert import Alert, alert_of, type_of
from shared.webhooks.formats import body_of

log = logging.getLogger("gpulaunch.alerts")

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
"""A receiver puts an alert aside and answers; one that thinks for longer holds a function that others wait for."""
DELAYS = (5, 30, 120, 600, 1800, 3600, 7200)
"""Seconds before each further try: a restart of the receiver costs half a minute, an outage of three hours nothing."""
LONGEST_SECONDS = 15.0
"""For the whole exchange, names and headers included."""
_PASSING = frozenset({408, 409, 425, 429})
"""Answers below 500 that another try may change."""


@dataclass(frozen=True)
class AlertDelivery:
    """The receiver's side of the alerts queue."""

    store: InstanceStore
    queues: Queues
    clock: Clock
    hooks: Sequence[Webhook]
    secret: SecretStr | None

    def deliver(self, message: AlertMessage) -> None:
        """Send one alert to one receiver, or put the message back with a delay.

        Raises:
            MessageError: There is no such event, the receiver refuses it for good, or all tries are used up.
        """
        if message.hook >= len(self.hooks):
            log.info("%s: an alert's receiver is no longer configured", message.instanceId)
            return
        hook = self.hooks[message.hook]
        where = f"webhook {message.hook + 1} at {hook.host}"
        alert = self._alert(message)
        if alert is None:
            self._put_back(message, where, "this version cannot read what it is about")
            return
        body = body_of(alert, hook.format)
        headers = {"Content-Type": "application/json", "User-Agent": "gpulaunch"}
        if self.secret is not None:
            headers |= signed_headers(self.secret.get_secret_value(), message.webhook_id, self.clock.now(), body)
        failure = _post(hook.url.get_secret_value(), headers, body)
        if failure is None:
            return
        reason, passing = failure
        if not passing:
            raise MessageError(f"{where} did not take the alert about {message.instanceId}: {reason}")
        self._put_back(message, where, reason)

    def _put_back(self, message: AlertMessage, where: str, reason: str) -> None:
        """Try again later, by whichever process takes the message then.

        Raises:
            MessageError: All tries are used up.
        """
        if message.tries >= len(DELAYS):
            raise MessageError(f"{where} did not get the alert about {message.instanceId}: {reason}")
        delay = DELAYS[message.tries]
        log.warning("%s did not get an alert, next try in %d s: %s", where, delay, reason)
        self.queues.send(ALERTS, message.model_copy(update={"tries": message.tries + 1}), delay)

    def _alert(self, message: AlertMessage) -> Alert | None:
        """The alert; None if it is about something that this version does not know or cannot read.

        Raises:
            MessageError: There is no such event.
        """
        if message.budget is not None:
            return Alert(type="budget.refused", timestamp=message.budget.at, data=message.budget)
        if message.unreadable is not None:
            return Alert(type="instance.unreadable", timestamp=message.unreadable.at, data=message.unreadable)
        if message.garbage is not None:
            return Alert(type=f"garbage.{message.garbage.reason}", timestamp=message.garbage.at, data=message.garbage)
        if message.access is not None:
            return Alert(type="access.throttled", timestamp=message.access.at, data=message.access)
        try:
            found = self.store.load(message.instanceId)
        except UnreadableRecordError:
            return None
        events = self.store.events(message.instanceId, after=message.sequence - 1, limit=1)
        kind = type_of(events[0]) if events else None
        if found is None or kind is None or events[0].sequence != message.sequence:
            if message.model_extra:
                return None
            raise MessageError(f"{message.instanceId} has no event {message.sequence} to alert about")
        return alert_of(found.record, events[0], kind, self.clock.now())


def signed_headers(secret: str, message_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """Sign a body by Standard Webhooks (https://www.standardwebhooks.com), symmetric, version 1."""
    seconds = str(int(now.timestamp()))
    text = b".".join((message_id.encode(), seconds.encode(), body))
    signature = base64.b64encode(hmac.new(signing_key(secret), text, hashlib.sha256).digest()).decode()
    return {"webhook-id": message_id, "webhook-timestamp": seconds, "webhook-signature": f"v1,{signature}"}


def _post(url: str, headers: dict[str, str], body: bytes) -> tuple[str, bool] | None:
    """None: taken; else why not, without the address, and whether another try may help."""

    def exchange() -> int:
        # A redirect is not a delivery: only the configured URL is called.
        with (
            httpx.Client(timeout=TIMEOUT, follow_redirects=False) as client,
            client.stream("POST", url, headers=headers, content=body) as answer,
        ):
            return answer.status_code

    try:
        status = within(LONGEST_SECONDS, exchange)
    except TimeoutError:
        return f"no answer within {LONGEST_SECONDS:.0f} s", True
    except httpx.TransportError as error:
        return type(error).__name__, True
    if 200 <= status < 300:
        return None
    return f"it answered {status}", status >= 500 or status in _PASSING
