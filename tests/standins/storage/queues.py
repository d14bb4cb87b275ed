"""Queue Storage as its clients see it: messages that are hidden for a time, with receipts and counts of deliveries."""

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Final
from xml.sax.saxutils import escape, unescape

from tests.standins.storage.shapes import Call, RefusedError, Reply

XML: Final = "application/xml"
_PATH: Final = re.compile(r"(?P<queue>[a-z0-9-]+)(?:/messages(?:/(?P<message>[^/]+))?)?")
_TTL_SECONDS: Final = 7 * 24 * 3600
_NEVER: Final = -1


@dataclass
class Message:
    id: str
    text: str
    inserted_at: datetime
    expires_at: datetime
    visible_at: datetime
    dequeue_count: int = 0
    pop_receipt: str = ""


@dataclass
class QueueService:
    now: Callable[[], datetime]
    queues: dict[str, list[Message]] = field(default_factory=dict[str, list[Message]])
    """Messages in the order in which they came."""
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count, init=False)

    def answer(self, call: Call) -> Reply:
        try:
            return self._answer(call)
        except RefusedError as error:
            body = f'<?xml version="1.0"?><Error><Code>{error.code}</Code><Message>{error}</Message></Error>'
            headers = {"x-ms-error-code": error.code}
            return Reply(status=error.status, headers=headers, body=body.encode(), content_type=XML)

    def _answer(self, call: Call) -> Reply:
        path = _PATH.fullmatch(call.path)
        if path is None:
            raise RefusedError(400, "InvalidUri", call.path)
        name, message = path["queue"], path["message"]
        if message is None and not call.path.endswith("/messages"):
            return self._of_queue(call, name)
        messages = self._queue(name)
        seconds = int(call.query.get("visibilitytimeout", 30 if call.method == "GET" else 0))
        match call.method, message:
            case "POST", None:
                ttl = int(call.query.get("messagettl", _TTL_SECONDS))
                return self._shown(201, [self.put(name, _text(call.body), seconds, ttl)], text=False)
            case "GET", None:
                count = int(call.query.get("numofmessages", 1))
                peek = call.query.get("peekonly") == "true"
                return self._shown(200, self.take(name, count, None if peek else seconds), text=True)
            case "DELETE", None:
                messages.clear()
                return Reply(status=204)
            case "DELETE", str():
                messages.remove(self._held(messages, message, call.query.get("popreceipt", "")))
                return Reply(status=204)
            case "PUT", str():
                return self._update(call, self._held(messages, message, call.query.get("popreceipt", "")), seconds)
            case _:
                raise RefusedError(405, "UnsupportedHttpVerb")

    def put(self, queue: str, text: str, hidden: float = 0, ttl: int = _NEVER) -> Message:
        """Put a message into a queue that exists, as a request would."""
        now = self.now()
        # The service keeps what never expires until the end of its calendar.
        expires = datetime.max.replace(tzinfo=now.tzinfo) if ttl == _NEVER else now + timedelta(seconds=ttl)
        number = next(self._numbers)
        made = Message(f"message-{number}", text, now, expires, now + timedelta(seconds=hidden))
        made.pop_receipt = f"receipt-{number}"
        self._queue(queue).append(made)
        return made

    def take(self, queue: str, count: int, seconds: float | None) -> list[Message]:
        """The first visible messages, hidden from now on for so many seconds; None: they are only looked at."""
        now = self.now()
        messages = self._queue(queue)
        messages[:] = [one for one in messages if one.expires_at > now]
        found = [one for one in messages if one.visible_at <= now][:count]
        if seconds is not None:
            for one in found:
                one.dequeue_count += 1
                one.pop_receipt = f"receipt-{next(self._numbers)}"
                one.visible_at = now + timedelta(seconds=seconds)
        return found

    def _of_queue(self, call: Call, name: str) -> Reply:
        match call.method:
            case "PUT":
                if name in self.queues:
                    raise RefusedError(409, "QueueAlreadyExists")
                self.queues[name] = []
                return Reply(status=201)
            case "DELETE":
                self._queue(name)
                del self.queues[name]
                return Reply(status=204)
            case _:
                return Reply(status=200, headers={"x-ms-approximate-messages-count": str(len(self._queue(name)))})

    def _queue(self, name: str) -> list[Message]:
        if name not in self.queues:
            raise RefusedError(404, "QueueNotFound")
        return self.queues[name]

    def _held(self, messages: Iterable[Message], message_id: str, receipt: str) -> Message:
        for one in messages:
            if one.id == message_id:
                if one.pop_receipt != receipt:
                    raise RefusedError(400, "PopReceiptMismatch")
                return one
        raise RefusedError(404, "MessageNotFound")

    def _update(self, call: Call, message: Message, seconds: int) -> Reply:
        if call.body:
            message.text = _text(call.body)
        message.pop_receipt = f"receipt-{next(self._numbers)}"
        message.visible_at = self.now() + timedelta(seconds=seconds)
        headers = {"x-ms-popreceipt": message.pop_receipt, "x-ms-time-next-visible": _date(message.visible_at)}
        return Reply(status=204, headers=headers)

    def _shown(self, status: int, messages: Iterable[Message], *, text: bool) -> Reply:
        shown = "".join(
            f"<QueueMessage><MessageId>{one.id}</MessageId><InsertionTime>{_date(one.inserted_at)}</InsertionTime>"
            f"<ExpirationTime>{_date(one.expires_at)}</ExpirationTime><PopReceipt>{one.pop_receipt}</PopReceipt>"
            f"<TimeNextVisible>{_date(one.visible_at)}</TimeNextVisible>"
            + (
                f"<DequeueCount>{one.dequeue_count}</DequeueCount><MessageText>{escape(one.text)}</MessageText>"
                if text
                else ""
            )
            + "</QueueMessage>"
            for one in messages
        )
        body = f'<?xml version="1.0" encoding="utf-8"?><QueueMessagesList>{shown}</QueueMessagesList>'
        return Reply(status=status, body=body.encode(), content_type=XML)


def _text(body: bytes) -> str:
    return unescape(body.decode().partition("<MessageText>")[2].partition("</MessageText>")[0])


def _date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)
