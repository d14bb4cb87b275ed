"""What a node is told, built from its record."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from gpulaunch.models.instances import Reason
from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import Job, LaunchRequest
from shared.auth import Deriver
from shared.domain.instance import Attempt, InstanceRecord
from shared.domain.node import ModelFile, NodeTls
from shared.domain.provider import LaunchRefusedError
from shared.domain.references import Reference
from shared.domain.request import StoredJob, StoredRequest
from shared.model_sources.assignment import AssignmentMaker
from shared.model_sources.base import HubSource, ModelListing
from shared.settings import Settings

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
FILES = [ModelFile(path="config.json", url="https://r2.example/config.json?sig=1", size=3)]


class At:
    def __init__(self, now: datetime = NOW) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now


class Listed:
    def __init__(self, listing: ModelListing) -> None:
        self.listing = listing

    def list_files(self, request: LaunchRequest, until: datetime | None = None) -> ModelListing:
        self.until = until
        return self.listing

    def beside(self, reference: Reference, name: str, revision: str) -> tuple[HubSource, ModelListing]:
        file = ModelFile(path="adapter_config.json", url=f"https://hub/{name}/resolve/{revision}/adapter_config.json")
        return HubSource(name, revision), ModelListing([file], name, revision)


def record(provider: Any = "slurm") -> InstanceRecord:
    offer = Offer(
        provider=provider, region="r", instance_type=None, gpu="A10", gpu_count=1, use_spot=True, price_per_hour=1
    )
    request = LaunchRequest(
        model_name="org/m", gpu="A10", vllm_args=["--seed", "1"], job=Job(command=["python", "eval.py"])
    )
    return InstanceRecord(
        instance_id="inst-1",
        request=StoredRequest.of(request),
        mode="real",
        phase_since=NOW,
        created_at=NOW,
        updated_at=NOW,
        deadline_at=NOW + timedelta(hours=1),
        due_at=None,
        offers=[offer],
        attempts=[Attempt(number=1, offer=offer, cluster_name="gl-1-1", submit_lease_until=NOW, started_at=NOW)],
        estimated_hourly_usd=1,
        worst_case_usd=1,
    )


def maker(listing: ModelListing, now: datetime = NOW) -> AssignmentMaker:
    settings = Settings.model_validate(
        {"GPULAUNCH_MASTER_KEY": "key-of-the-tests-0123456789-abcdef", "HF_TOKEN": "hf_secret"}
    )
    return AssignmentMaker(settings, Deriver(SecretStr("k" * 32)), Listed(listing), At(now))


def test_files_key_and_limits_are_the_records() -> None:
    made = maker(ModelListing(FILES)).make(record(), 1)
    assert made.files == FILES
    assert made.api_key == Deriver(SecretStr("k" * 32)).endpoint_key("inst-1", 1)
    assert (made.port, made.lease_seconds, made.deadline_at) == (None, 900, NOW + timedelta(hours=1))
    assert made.vllm_args == ["--seed", "1"]
    assert made.job == StoredJob(command=["python", "eval.py"])


@pytest.mark.parametrize("tls", [True, False])
def test_a_certificate_goes_to_attempts_that_are_called_by_tls(*, tls: bool) -> None:
    given = record()
    given = given.model_copy(update={"attempts": [given.attempts[0].model_copy(update={"tls": tls})]})
    found, deriver = maker(ModelListing(FILES)).make(given, 1).tls, Deriver(SecretStr("k" * 32))
    made = deriver.certificate("inst-1", 1)
    expected = NodeTls(certificate=made.certificate, key=made.key, authority=deriver.authority_certificate())
    assert found == (expected if tls else None)
    assert made.key not in repr(found)


def test_the_hubs_token_goes_only_to_nodes_that_fetch_from_the_hub() -> None:
    assert maker(ModelListing(FILES)).make(record(), 1).hub_token is None
    made = maker(ModelListing([], "org/m")).make(record(), 1)
    assert (made.hub_model, made.hub_token) == ("org/m", "hf_secret")


def test_machines_of_our_own_get_the_fixed_port() -> None:
    assert maker(ModelListing(FILES)).make(record("azure"), 1).port == 8000


@pytest.mark.parametrize(("number", "now"), [(2, NOW), (1, NOW + timedelta(hours=1))])
def test_no_assignment_for_an_unknown_attempt_or_past_the_deadline(number: int, now: datetime) -> None:
    with pytest.raises(LaunchRefusedError) as caught:
        maker(ModelListing(FILES), now).make(record(), number)
    assert caught.value.failure.reason is Reason.MODEL_FETCH_FAILED
