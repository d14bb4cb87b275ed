"""The client against the real functions, with simulated machines on a simulated clock."""

import asyncio

import pytest

from gpulaunch import AsyncGpuLaunch, GpuLaunch
from gpulaunch.client.errors import (
    AccessError,
    ConflictError,
    EndedError,
    InvalidRequestError,
    NoAnswerError,
    NotFoundError,
    ServerError,
    WaitTimeoutError,
)
from gpulaunch.models.instances import Phase, Reason
from gpulaunch.models.requests import LaunchRequest
from gpulaunch.models.responses import InstanceView, UnreadableView
from tests.contract.test_unreadable_rows import later_phase
from tests.functional.cli.conftest import ADDRESS, WorldTime, WorldTransport
from tests.functional.test_bad_rows import document_with
from tests.functional.world import ADMIN, READER, SEED, World

NOBODY = "inst-" + "0" * 26


def test_a_launch_should_be_ready_after_82_seconds_and_report_every_phase(gpu: GpuLaunch, world: World) -> None:
    began = world.clock.now()
    answer = gpu.launch(SEED)
    seen: list[Phase] = []
    ready = gpu.wait_until_ready(
        answer.instance_id, timeout=120, on_change=lambda view: None if view.phase in seen else seen.append(view.phase)
    )
    assert ready.phase is Phase.READY
    assert 82 <= (world.clock.now() - began).total_seconds() <= 88
    assert seen == [
        Phase.QUEUED, Phase.VALIDATING, Phase.PROVISIONING, Phase.INSTALLING, Phase.LOADING_MODEL,
        Phase.STARTING_SERVER, Phase.REGISTERING, Phase.READY,
    ]  # fmt: skip
    credentials = gpu.credentials(answer.instance_id)
    assert (credentials.endpoint, credentials.model_name) == (ready.endpoint, SEED["model_name"])


def test_waiting_should_ask_by_etag_and_be_answered_304_while_nothing_changes(
    gpu: GpuLaunch, transport: WorldTransport
) -> None:
    gpu.wait_until_ready(gpu.launch(SEED).instance_id)
    looks = [
        (request.headers.get("If-None-Match"), status)
        for request, status in zip(transport.sent, transport.statuses, strict=True)
        if request.method == "GET"
    ]
    assert looks[0] == (None, 200)
    assert all(known is not None for known, _ in looks[1:])
    unchanged = [status for _, status in looks].count(304)
    assert unchanged > len(looks) / 2
    assert len(looks) < 40


def test_a_typed_request_should_send_only_what_was_set(gpu: GpuLaunch, transport: WorldTransport) -> None:
    gpu.launch(LaunchRequest(model_name="Qwen/Qwen3-8B", gpu="A10"))
    assert transport.bodies("POST") == [{"model_name": "Qwen/Qwen3-8B", "gpu": "A10"}]


@pytest.mark.parametrize("dead", [False, True])
def test_a_launch_whose_answer_is_lost_should_be_sent_again_and_launch_once(
    gpu: GpuLaunch, transport: WorldTransport, dead: bool
) -> None:
    transport.lost, transport.dead = 2, dead
    answer = gpu.launch(SEED)
    posts = [request for request in transport.sent if request.method == "POST"]
    assert len(posts) == 3
    assert len({request.headers["Idempotency-Key"] for request in posts}) == 1
    assert [view.instance_id for view in gpu.list()] == [answer.instance_id]


def test_a_wait_should_outlive_a_worker_that_dies_again_and_again(gpu: GpuLaunch, transport: WorldTransport) -> None:
    launched = gpu.launch(SEED).instance_id
    transport.lost, transport.dead = 3, True
    assert gpu.wait_until_ready(launched).phase is Phase.READY


def test_two_launches_should_be_two_and_with_one_key_one(gpu: GpuLaunch) -> None:
    first, second = gpu.launch(SEED), gpu.launch(SEED)
    assert first.instance_id != second.instance_id
    keyed = [gpu.launch(idempotency_key="mine", model_name="m/m", gpu="A10").instance_id for _ in range(2)]
    assert keyed[0] == keyed[1]
    with pytest.raises(ConflictError) as caught:
        gpu.launch(idempotency_key="mine", model_name="m/m", gpu="A10", use_spot=False)
    assert caught.value.code == "idempotency_key_reused"


def test_answers_that_stay_lost_should_end_in_an_error_after_four_tries(
    gpu: GpuLaunch, transport: WorldTransport
) -> None:
    transport.lost = 99
    with pytest.raises(NoAnswerError, match=r"http://app\.test did not answer in time"):
        gpu.config()
    assert len(transport.sent) == 4


def test_invalid_fields_should_have_the_nearest_values_and_not_be_retried(
    gpu: GpuLaunch, transport: WorldTransport
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        gpu.launch(SEED | {"instance_type": "Standard_NV36ads_A10_v6", "modelname": "x"})
    assert caught.value.status == 422
    assert {error.field for error in caught.value.errors} == {"modelname"}
    with pytest.raises(InvalidRequestError) as caught:
        gpu.launch(SEED | {"instance_type": "Standard_NV36ads_A10_v6"})
    assert "Standard_NV36ads_A10_v5" in caught.value.errors[0].nearest
    assert len(transport.sent) == 2


def test_a_list_should_go_over_its_pages_only_as_far_as_it_is_read(gpu: GpuLaunch, transport: WorldTransport) -> None:
    made = [gpu.launch(SEED | {"labels": {"n": str(number % 2)}}).instance_id for number in range(130)]
    transport.sent.clear()
    listed = gpu.list()
    assert next(listed).instance_id == made[-1]
    assert len(transport.sent) == 1
    assert [view.instance_id for view in listed] == made[-2::-1]
    assert len(transport.sent) == 2
    assert len(list(gpu.list(label="n=1"))) == 65
    assert list(gpu.list(live=False)) == []
    assert len(list(gpu.list(phase=Phase.QUEUED, provider="azure", live=True))) == 130


def test_a_failed_launch_should_raise_its_reason(gpu: GpuLaunch) -> None:
    launched = gpu.launch(SEED | {"labels": {"simulate.no-capacity": "50"}})
    with pytest.raises(EndedError) as caught:
        gpu.wait_until_ready(launched.instance_id)
    ending = caught.value.instance.ending
    assert ending is not None
    assert ending.reason in (Reason.NO_OFFERS_LEFT, Reason.TOO_MANY_ATTEMPTS)
    assert ending.reason.value in str(caught.value)
    failures = [attempt.failure.reason for attempt in caught.value.instance.attempts if attempt.failure]
    assert set(failures) == {Reason.NO_CAPACITY}
    assert gpu.wait_until_ended(launched.instance_id).phase is Phase.FAILED


def test_waiting_should_end_in_time_and_the_instance_go_on(gpu: GpuLaunch, world: World) -> None:
    launched, began = gpu.launch(SEED), world.clock.now()
    with pytest.raises(WaitTimeoutError) as caught:
        gpu.wait_until_ready(launched.instance_id, timeout=20)
    assert caught.value.instance.phase is Phase.PROVISIONING
    assert (world.clock.now() - began).total_seconds() == 20
    assert gpu.wait_until_ready(launched.instance_id, timeout=80).phase is Phase.READY


def test_a_wait_should_tolerate_an_outage_of_minutes_but_not_more(gpu: GpuLaunch, transport: WorldTransport) -> None:
    launched = gpu.launch(SEED)

    def cut(view: InstanceView) -> None:
        if view.phase is Phase.PROVISIONING:
            transport.lost = 40

    assert gpu.wait_until_ready(launched.instance_id, on_change=cut).phase is Phase.READY
    transport.lost = 9_999
    with pytest.raises(NoAnswerError):
        list(gpu.follow_events(launched.instance_id))


def test_terminating_during_a_launch_should_be_awaitable_and_repeatable(gpu: GpuLaunch) -> None:
    launched = gpu.launch(SEED)
    with pytest.raises(WaitTimeoutError):
        gpu.wait_until_ready(launched.instance_id, timeout=40)
    assert gpu.terminate(launched.instance_id).phase is Phase.TERMINATING
    assert gpu.wait_until_ended(launched.instance_id, timeout=300).phase is Phase.TERMINATED
    assert gpu.terminate(launched.instance_id).phase is Phase.TERMINATED


def test_an_instance_that_cannot_be_read_should_be_listed_apart_and_be_terminated(
    gpu: GpuLaunch, async_gpu: AsyncGpuLaunch, world: World
) -> None:
    good, bad = world.launch(), world.launch()
    world.run(120)
    document_with(later_phase)(world, bad)
    assert [view.instance_id for view in gpu.list()] == [good]
    (page,) = gpu.pages(live=True)
    assert [view.instance_id for view in page.unreadable] == [bad]
    with pytest.raises(ServerError) as caught:
        gpu.get(bad)
    assert caught.value.code == "unreadable_record"
    assert gpu.terminate(bad) == page.unreadable[0]
    again = asyncio.run(async_gpu.terminate(bad))
    assert isinstance(again, UnreadableView)
    assert again.instance_id == bad
    world.run(120)
    assert len(world.simulation.provider.clusters()) == 1


def test_followed_events_should_come_once_and_stop_at_the_end(gpu: GpuLaunch) -> None:
    launched = gpu.launch(SEED | {"max_lifetime_minutes": 3})
    followed = list(gpu.follow_events(launched.instance_id))
    assert [event.sequence for event in followed] == list(range(len(followed)))
    assert followed == gpu.events(launched.instance_id).events
    assert followed[-1].phase is Phase.TERMINATED
    assert gpu.events(launched.instance_id, after=3).events[0].sequence == 4


def test_followed_logs_should_have_every_line_once(gpu: GpuLaunch) -> None:
    launched = gpu.launch(SEED | {"max_lifetime_minutes": 3})
    lines = list(gpu.follow_logs(launched.instance_id))
    assert lines
    assert lines == gpu.logs(launched.instance_id).lines


def test_tokens_should_do_what_they_may(world: World, transport: WorldTransport, gpu: GpuLaunch) -> None:
    launched = gpu.launch(SEED)
    reader = GpuLaunch(ADDRESS, READER, transport=transport)
    assert (gpu.role(), reader.role()) == ("admin", "read")
    assert reader.get(launched.instance_id).instance_id == launched.instance_id
    with pytest.raises(AccessError) as caught:
        reader.terminate(launched.instance_id)
    assert caught.value.status == 403
    stranger = GpuLaunch(ADDRESS, "a-token-nobody-knows", transport=transport)
    with pytest.raises(AccessError) as caught:
        stranger.role()
    assert caught.value.status == 401
    assert stranger.health().status == "ok"


def test_a_missing_instance_should_raise(gpu: GpuLaunch) -> None:
    for call in (gpu.get, gpu.events, gpu.logs, gpu.credentials, gpu.terminate, gpu.wait_until_ready):
        with pytest.raises(NotFoundError, match=NOBODY):
            call(NOBODY)
    with pytest.raises(NotFoundError):
        gpu.get("../config?x=1#y")


def test_credentials_of_an_instance_that_is_not_ready_should_be_a_conflict(gpu: GpuLaunch) -> None:
    with pytest.raises(ConflictError) as caught:
        gpu.credentials(gpu.launch(SEED).instance_id)
    assert caught.value.code == "not_ready"


def test_catalog_and_config_should_be_typed(gpu: GpuLaunch) -> None:
    catalog = gpu.catalog(region="eastus", gpu="a10")
    assert catalog.offers
    assert {(offer.region, offer.gpu) for offer in catalog.offers} == {("eastus", "A10")}
    assert gpu.config().orchestrator == "simulation"


def test_the_asynchronous_client_should_do_all_the_same(async_gpu: AsyncGpuLaunch, transport: WorldTransport) -> None:
    async def story() -> None:
        async with async_gpu as gpu:
            assert (await gpu.health()).status == "ok"
            assert await gpu.role() == "admin"
            assert (await gpu.config()).workspace == "default"
            assert (await gpu.catalog(gpu="A10")).offers
            transport.lost = 1
            launched = await gpu.launch(SEED | {"max_lifetime_minutes": 4})
            phases: list[Phase] = []
            ready = await gpu.wait_until_ready(launched.instance_id, 100, lambda view: phases.append(view.phase))
            assert phases[-1] is ready.phase is Phase.READY
            assert (await gpu.credentials(launched.instance_id)).endpoint == ready.endpoint
            assert [view.instance_id async for view in gpu.list(live=True)] == [launched.instance_id]
            assert (await gpu.get(launched.instance_id)).phase is Phase.READY
            assert (await gpu.logs(launched.instance_id)).lines
            with pytest.raises(NotFoundError):
                await gpu.get(NOBODY)
            assert not (await gpu.quota(["eastus"])).checked
            assert (await gpu.costs(by="provider")).groups[0].key == "azure"
            assert (await gpu.terminate(launched.instance_id)).phase is Phase.TERMINATING
            assert (await gpu.wait_until_ended(launched.instance_id)).phase is Phase.TERMINATED
            story = (await gpu.events(launched.instance_id)).events
            assert [event async for event in gpu.follow_events(launched.instance_id)] == story
            assert [line async for line in gpu.follow_logs(launched.instance_id)]

    asyncio.run(story())


def test_the_asynchronous_client_should_wait_without_stopping_others(world: World, transport: WorldTransport) -> None:
    time = WorldTime(world)

    async def sleep(seconds: float) -> None:
        time.sleep(seconds)
        await asyncio.sleep(0)

    gpu = AsyncGpuLaunch(ADDRESS, ADMIN, transport=transport, sleep=sleep, clock=time.clock)

    async def story() -> list[InstanceView]:
        launched = [(await gpu.launch(SEED)).instance_id for _ in range(3)]
        return await asyncio.gather(*(gpu.wait_until_ready(instance_id) for instance_id in launched))

    assert [view.phase for view in asyncio.run(story())] == [Phase.READY] * 3
    assert time.clock() < 120
