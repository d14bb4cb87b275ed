"""What clouds say, and the reason that it comes to."""

import pytest

from gpulaunch.models.instances import Reason
from shared.backends.skypilot.errors import explain, name_of
from shared.backends.skypilot.http import SkyFailedError
from shared.redaction import Redactor
from tests.twins.factories import make_offer

UNAVAILABLE = SkyFailedError(
    "ResourcesUnavailableError",
    "Failed to provision all possible launchable resources. Relax the task's resource requirements: 1x Azure(x)",
)
AZURE = "Failed to create instances: [azure.core.exceptions.HttpResponseError] ({code}) {text}"


def reason(log: str, error: SkyFailedError = UNAVAILABLE, provider: str = "azure") -> Reason:
    return explain(error, log, make_offer(provider=provider), Redactor().text).reason


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("AllocationFailed", Reason.NO_CAPACITY),
        ("ZonalAllocationFailed", Reason.NO_CAPACITY),
        ("SkuNotAvailable", Reason.NO_CAPACITY),
        ("OverconstrainedAllocationRequest", Reason.NO_CAPACITY),
        ("OverconstrainedZonalAllocationRequest", Reason.NO_CAPACITY),
        ("OperationNotAllowed", Reason.QUOTA_EXCEEDED),
        ("QuotaExceeded", Reason.QUOTA_EXCEEDED),
        ("AuthorizationFailed", Reason.PERMISSION_DENIED),
        ("LinkedAuthorizationFailed", Reason.PERMISSION_DENIED),
        ("RequestDisallowedByPolicy", Reason.PERMISSION_DENIED),
        ("InvalidAuthenticationTokenTenant", Reason.PERMISSION_DENIED),
        ("PlatformImageNotFound", Reason.IMAGE_UNAVAILABLE),
        ("GalleryImageNotFound", Reason.IMAGE_UNAVAILABLE),
    ],
)
def test_azure_s_codes_are_found_in_the_log(code: str, expected: Reason) -> None:
    assert reason(AZURE.format(code=code, text="Sorry.")) is expected


@pytest.mark.parametrize(
    ("provider", "log", "expected"),
    [
        ("aws", "An error occurred (InsufficientInstanceCapacity) when calling the RunInstances", Reason.NO_CAPACITY),
        ("aws", "An error occurred (VcpuLimitExceeded) when calling RunInstances", Reason.QUOTA_EXCEEDED),
        ("aws", "An error occurred (MaxSpotInstanceCountExceeded) when calling", Reason.QUOTA_EXCEEDED),
        ("aws", "An error occurred (UnauthorizedOperation) when calling RunInstances", Reason.PERMISSION_DENIED),
        ("aws", "An error occurred (InvalidAMIID.NotFound)", Reason.IMAGE_UNAVAILABLE),
        ("gcp", "code: ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", Reason.NO_CAPACITY),
        ("gcp", "QUOTA_EXCEEDED: Quota 'GPUS_ALL_REGIONS' exceeded. Limit: 0.0 globally.", Reason.QUOTA_EXCEEDED),
        ("gcp", "IAM_PERMISSION_DENIED: missing compute.instances.create", Reason.PERMISSION_DENIED),
        ("kubernetes", "Insufficient nvidia.com/gpu capacity on the cluster.", Reason.NO_CAPACITY),
        ("kubernetes", "pods is forbidden: exceeded quota: gpus", Reason.QUOTA_EXCEEDED),
        ("kubernetes", "pods is forbidden: User cannot create resource", Reason.PERMISSION_DENIED),
        ("kubernetes", "container has ErrImagePull", Reason.IMAGE_UNAVAILABLE),
        ("slurm", "Job 7 did not get nodes allocated within 10 seconds. Last state: PENDING", Reason.NO_CAPACITY),
        ("slurm", "sbatch: error: Requested node configuration is not available", Reason.NO_CAPACITY),
        ("slurm", "sbatch: error: Invalid account or account/partition combination", Reason.PERMISSION_DENIED),
        ("slurm", "Reason=QOSMaxGRESPerUser", Reason.QUOTA_EXCEEDED),
        ("slurm", "ssh: connect to host 10.0.0.1 port 22: Connection refused", Reason.NETWORK_FAILED),
        ("slurm", "Slurm job 9 exited (FAILED) before initialization completed.", Reason.SETUP_FAILED),
        ("azure", "Failed to set up SkyPilot runtime on cluster.", Reason.SETUP_FAILED),
        ("azure", "HTTP status code 401", Reason.PERMISSION_DENIED),
        ("azure", "something nobody has seen before", Reason.PROVISIONING_FAILED),
    ],
)
def test_what_other_clouds_say(provider: str, log: str, expected: Reason) -> None:
    assert reason(log, provider=provider) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SkyFailedError("InvalidSkyPilotConfigError", "unsupported field 'x'"), Reason.INVALID_TASK),
        (SkyFailedError("NotSupportedError", "Opening ports is not supported"), Reason.INVALID_TASK),
        (SkyFailedError("ResourcesMismatchError", "other resources"), Reason.INVALID_TASK),
        (SkyFailedError("ClusterSetUpError", "pip died"), Reason.SETUP_FAILED),
        (SkyFailedError("NetworkError", "no way"), Reason.NETWORK_FAILED),
        (SkyFailedError("RequestCancelled", "by hand"), Reason.PROVIDER_UNAVAILABLE),
        (SkyFailedError("RequestInterruptedError", "restart"), Reason.PROVIDER_UNAVAILABLE),
        (SkyFailedError("BrokenProcessPool", "terminated abruptly"), Reason.PROVIDER_UNAVAILABLE),
        (SkyFailedError("KeyboardInterrupt", ""), Reason.PROVIDER_UNAVAILABLE),
        (SkyFailedError("NotFound", "Request 'r1' not found"), Reason.PROVIDER_UNAVAILABLE),
        (SkyFailedError("RuntimeError", "the machine was stopped"), Reason.PROVISIONING_FAILED),
        (SkyFailedError("CloudUserIdentityError", "who are you"), Reason.PERMISSION_DENIED),
    ],
)
def test_what_skypilot_raises_counts_without_a_log(error: SkyFailedError, expected: Reason) -> None:
    assert reason("", error) is expected


def test_a_launch_that_was_cut_off_is_not_judged_by_its_log() -> None:
    log = AZURE.format(code="OperationNotAllowed", text="exceeding approved cores quota")
    assert reason(log, SkyFailedError("RequestInterruptedError", "restart")) is Reason.PROVIDER_UNAVAILABLE


def test_quota_is_not_taken_for_lack_of_room() -> None:
    log = (
        AZURE.format(code="OperationNotAllowed", text="Allocation would exceed approved cores quota")
        + "\nSkuNotAvailable"
    )
    assert reason(log) is Reason.QUOTA_EXCEEDED


def test_an_impossible_machine_is_no_room_where_nodes_are_one_s_own_and_a_mistake_elsewhere() -> None:
    error = SkyFailedError("ResourcesUnavailableError", "Catalog does not contain any instances satisfying the request")
    assert reason("", error, "slurm") is Reason.NO_CAPACITY
    assert reason("", error, "azure") is Reason.INVALID_TASK


@pytest.mark.parametrize("text", ["port 4030 opened", "took 401 ms", "403 lines", "no image changed"])
def test_numbers_and_words_in_passing_mean_nothing(text: str) -> None:
    assert reason(text) is Reason.PROVISIONING_FAILED


def test_the_message_is_for_people_short_and_without_secrets() -> None:
    log = "x" * 5000 + "\n" + AZURE.format(code="AllocationFailed", text="token=abcdefghijklmnop " + "y" * 5000)
    failure = explain(UNAVAILABLE, log, make_offer(), Redactor().text)
    assert failure.message.startswith("Azure has no capacity for Standard_NV36ads_A10_v5 (spot) in eastus: ")
    assert "AllocationFailed" in failure.message
    assert "abcdefghijklmnop" not in failure.message
    assert len(failure.message) <= 400
    assert "\n" not in failure.message


def test_a_machine_without_a_type_is_named_by_its_gpus() -> None:
    assert name_of(make_offer(instance_type=None, gpu_count=2, use_spot=False, region="e2e")) == "2 x A10 in e2e"
