"""Build a node's assignment from its record."""

from gpulaunch.models.requests import LaunchRequest
from shared.agent.task import server_port
from shared.auth import Deriver
from shared.clock import Clock
from shared.domain.instance import InstanceRecord
from shared.domain.node import Assignment, ModelFolder, NodeTls
from shared.domain.references import MODEL_FOLDER, Reference, localized
from shared.model_sources.base import SourceListings, refused
from shared.settings import Settings


def pinned(record: InstanceRecord) -> LaunchRequest:
    """The record's request, of the very commit that was found at its launch: a recovered node serves no other."""
    source = None if record.model is None else record.model.pinned_source
    return record.request if source is None else record.request.model_copy(update={"model_source": source})


class AssignmentMaker:
    """Builds assignments; every call lists the model's files again, so that the signed URLs are fresh."""

    def __init__(self, settings: Settings, deriver: Deriver, files: SourceListings, clock: Clock) -> None:
        self._settings = settings
        self._deriver = deriver
        self._files = files
        self._clock = clock

    def make(self, record: InstanceRecord, attempt: int) -> Assignment:
        """See Assignments; also refused when the instance is past its deadline."""
        left = int((record.deadline_at - self._clock.now()).total_seconds())
        if left <= 0:
            raise refused(f"{record.instance_id} is past its deadline")
        tried = next((one for one in record.attempts if one.number == attempt), None)
        if tried is None:
            raise refused(f"{record.instance_id} has no attempt {attempt}")
        listing = self._files.list_files(pinned(record), None if record.model is None else record.model.newest)
        folders, local_args = self._localized(record)
        of_hub = listing.hub_model is not None or bool(folders)
        hub_token = self._settings.hub_token if of_hub else None
        return Assignment(
            instance_id=record.instance_id,
            attempt=attempt,
            model_name=record.request.model_name,
            files=listing.files,
            hub_model=listing.hub_model,
            hub_endpoint=self._settings.hub_endpoint,
            hub_token=None if hub_token is None else hub_token.get_secret_value(),
            folders=folders,
            chat_template=record.request.chat_template,
            vllm_args=record.request.vllm_args,
            local_args=local_args,
            api_key=self._deriver.endpoint_key(record.instance_id, attempt),
            tls=node_tls(self._deriver, record.instance_id, attempt) if tried.tls else None,
            port=server_port(tried.offer.provider, self._settings),
            deadline_at=record.deadline_at,
            lease_seconds=min(self._settings.lease_seconds, left),
            job=record.request.job,
        )

    def _localized(self, record: InstanceRecord) -> tuple[list[ModelFolder], list[str]]:
        """What the node fetches beside the model, and vLLM's arguments with its folders in them."""
        folders: dict[Reference, ModelFolder] = {}

        def place_of(reference: Reference) -> str:
            if reference.local:
                path = reference.name.removeprefix(MODEL_FOLDER).lstrip("/")
                return f"{{{MODEL_FOLDER}}}/{path}".rstrip("/")
            if reference not in folders:
                name, revision = reference.name, reference.revision
                if record.model is not None:
                    name, revision = record.model.pinned_extra(name, revision)
                files = self._files.beside(reference, name, revision)[1].files
                folders[reference] = ModelFolder(name=f"extra-{len(folders) + 1}", files=files)
            return f"{{{folders[reference].name}}}"

        args = localized(record.request.vllm_args, place_of)
        return list(folders.values()), args


def node_tls(deriver: Deriver, instance_id: str, attempt: int) -> NodeTls:
    """With what an attempt's node answers by TLS, derived anew each time."""
    made = deriver.certificate(instance_id, attempt)
    return NodeTls(certificate=made.certificate, key=made.key, authority=deriver.authority_certificate())
