"""A storage account: a table service and a queue service behind their two addresses."""

from collections.abc import Callable
from datetime import datetime

from tests.standins.storage.queues import QueueService
from tests.standins.storage.shapes import Call, Reply
from tests.standins.storage.tables import TableService


class StorageAccount:
    def __init__(self, now: Callable[[], datetime]) -> None:
        self.tables = TableService(now)
        self.queues = QueueService(now)

    def answer(self, call: Call) -> Reply:
        return (self.queues if call.service == "queue" else self.tables).answer(call)
