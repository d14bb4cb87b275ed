"""Build a node's assignment from its record."""

from shared.agent.task import server_port
from shared.auth import Deriver
from shared.clock import Clock
from shared.domain.instance import Attempt, InstanceRecord
from shared.domain.node import Assignment
from shared.model_sources.base import ModelFiles, refused
from shared.settings import Settings


def _attempt(record: InstanceRecord, number: int) -> Attempt:
    for attempt in record.attempts:
        if attempt.number == number:
            return attempt
    raise refused(f"{record.instance_id} has no attempt {number}")


class AssignmentMaker:
    """Builds assignments; every call lists the model's files again, so that the signed URLs are fresh."""

    def __init__(self, settings: Settings, deriver: Deriver, files: ModelFiles, clock: Clock) -> None:
        self._settings = settings
        self._deriver = deriver
        self._files = files
        self._clock = clock

    def make(self, record: InstanceRecord, attempt: int) -> Assignment:
        """Return the assignment of an attempt.

        Raises LaunchRefusedError when the model's source can't be read or the instance is past its deadline, and
        ProviderUnavailableError when the source did not answer.
        """
        if self._clock.now() >= record.deadline_at:
            raise refused(f"{record.instance_id} is past its deadline")
        tried = _attempt(record, attempt)
        listing = self._files.list_files(record.request)
        hub_token = self._settings.hub_token if listing.hub_model is not None else None
        return Assignment(
            instance_id=record.instance_id,
            attempt=attempt,
            model_name=record.request.model_name,
            files=listing.files,
            hub_model=listing.hub_model,
            hub_endpoint=self._settings.hub_endpoint,
            hub_token=None if hub_token is None else hub_token.get_secret_value(),
            vllm_args=record.request.vllm_args,
            api_key=self._deriver.endpoint_key(record.instance_id, attempt),
            port=server_port(tried.offer.provider, self._settings),
            deadline_at=record.deadline_at,
            lease_seconds=self._settings.lease_seconds,
            job=record.request.job,
        )
