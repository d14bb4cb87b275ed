"""Accepting a launch: what is taken, what is refused and how, and what is the same the second time."""

import json
from typing import Any

import pytest
from pydantic import SecretStr

from shared.errors import StoreUnavailableError
from shared.queues import LAUNCHES
from shared.storage.base import IdempotencyEntry
from tests.functional.world import ADMIN, READER, SEED, World, settings

PATH = "/api/instances/launch"


def problem(world: World, body: object, **call: Any) -> Any:
    answer = world.call("POST", PATH, body, **call)
    assert answer.status == 422, answer.body
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json["code"] == "invalid_request"
    return {error["field"]: error for error in answer.json["errors"]}


def test_the_seed_body_should_be_accepted_word_for_word(world: World) -> None:
    answer = world.call("POST", PATH, SEED)
    assert answer.status == 202
    assert answer.headers["Location"] == f"http://test/api/instances/{answer.json['instance_id']}"
    assert answer.json["message"] == "GPU instance launch initiated (SIMULATION)"
    assert (answer.json["mode"], answer.json["phase"]) == ("simulation", "queued")
    assert [(offer["use_spot"], offer["region"]) for offer in answer.json["offers"]] == [
        (True, "eastus"),
        (False, "eastus"),
    ]
    estimate = answer.json["estimate"]
    assert estimate["hourly_usd"] == answer.json["offers"][0]["price_per_hour"]
    assert estimate["worst_case_usd"] == pytest.approx(answer.json["offers"][1]["price_per_hour"] * 12)
    assert estimate["prices_as_of"]


def test_a_gpu_too_small_is_a_warning_and_no_refusal(world: World) -> None:
    small = {**SEED, "instance_type": "Standard_NC4as_T4_v3"}
    answer = world.call("POST", PATH, small)
    assert answer.status == 202
    assert answer.json["warnings"] == [
        "The model may not fit: it needs about 19 GiB, has 16 GiB on the T4 (8 billion parameters at 16 bits, a "
        "context of 8,192 tokens). Use a larger GPU, a quantized model or a shorter --max-model-len."
    ]
    assert answer.json["gpu_memory"]["fits"] is False


@pytest.mark.parametrize(
    ("changes", "fits"), [({}, True), ({"model_name": "my-model"}, None), ({"vllm_args": ["-q=unheard-of"]}, None)]
)
def test_a_gpu_that_fits_or_a_model_of_unknown_size_is_no_warning(
    world: World, changes: dict[str, object], fits: bool | None
) -> None:
    answer = world.call("POST", PATH, SEED | changes)
    assert answer.json["warnings"] == []
    assert (answer.json["gpu_memory"] or {"fits": None})["fits"] is fits


def test_accepting_should_take_one_transaction_and_one_message(world: World) -> None:
    world.call("POST", PATH, SEED)
    assert world.store.calls.seen == ["create"]
    assert world.queues.calls.seen == ["send"]
    assert set(json.loads(world.queues.bodies(LAUNCHES)[0])) == {"instanceId", "epoch", "step"}


@pytest.mark.parametrize(
    ("changes", "field", "nearest"),
    [
        ({"modle_name": "x"}, "modle_name", "model_name"),
        ({"region": "eastuss"}, "region", "eastus"),
        ({"region": "East US"}, "region", "eastus"),
        ({"region": ["eastus", "nowhere"]}, "region", None),
        ({"instance_type": "Standard_NV36ads_A10_v4"}, "instance_type", "Standard_NV36ads_A10_v5"),
        ({"instance_type": "g5.xlarge"}, "instance_type", None),
        ({"instance_type": None, "gpu": "A1000"}, "gpu", "A100"),
        ({"provider": "azur"}, "provider", "azure"),
        ({"provider": "slurm"}, "instance_type", None),
        ({"max_hourly_cost": 0.01}, "max_hourly_cost", None),
        ({"max_hourly_cost": -1}, "max_hourly_cost", None),
        ({"max_lifetime_minutes": 0}, "max_lifetime_minutes", None),
        ({"vllm_args": ["--api-key", "x"]}, "vllm_args", None),
        ({"vllm_args": "--max-model-len 5"}, "vllm_args", None),
        ({"model_name": "a; rm -rf /"}, "model_name", None),
        ({"model_source": "ftp://host/x"}, "model_source", None),
        ({"model_source": "https://user:pass@host/c/x"}, "model_source", None),
        ({"labels": {"bad key": "x"}}, "labels.bad key", None),
        ({"labels": {"simulate.nonsense": "1"}}, "labels", None),
        ({"name": "UPPER"}, "name", None),
        ({"gpu": "A10"}, "body", None),
        ({"instance_type": None}, "body", None),
        ({"job": {"command": []}}, "job.command", None),
        ({"job": {"command": ["curl", "-H", "Authorization: Bearer sk-live-abcdefghijklmnop"]}}, "job.command.2", None),
        ({"job": {"command": ["env", "API_KEY=0123456789abcdef", "x"]}}, "job.command.1", None),
    ],
)
def test_a_wrong_field_should_be_named_with_the_nearest_values(
    world: World, changes: dict[str, Any], field: str, nearest: str | None
) -> None:
    body = {key: value for key, value in (SEED | changes).items() if value is not None}
    errors = problem(world, body)
    found = next((errors[name] for name in errors if name.startswith(field)), None)
    assert found is not None, errors
    assert found["message"]
    if nearest is not None:
        assert any(value.startswith(nearest) for value in found["nearest"]), found
    assert "create" not in world.store.calls.seen


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'"text"', 400),
        (b"null", 400),
        (b'{"max_hourly_cost": NaN}', 400),
        (b"\xff\xfe", 400),
        (b"[" * 10_000, 400),
        (b"{}", 422),
        (b'{"a": "' + b"x" * 70_000 + b'"}', 413),
    ],
)
def test_a_body_that_is_no_launch_should_get_a_clear_no(world: World, raw: bytes, status: int) -> None:
    answer = world.call("POST", PATH, raw=raw)
    assert answer.status == status
    assert answer.json["detail"]
    assert world.store.calls.seen == []


def test_all_wrong_fields_should_be_said_at_once(world: World) -> None:
    errors = problem(world, {"model_name": "", "provider": "moon", "surprise": 1, "gpu": "A10"})
    assert {"model_name", "provider", "surprise"} <= set(errors)


@pytest.mark.parametrize(
    ("token", "status"),
    [(None, 401), ("", 401), ("wrong-token-wrong-token", 401), (READER, 403), (ADMIN, 202)],
)
def test_only_an_admin_token_should_launch(world: World, token: str | None, status: int) -> None:
    answer = world.call("POST", PATH, SEED, token=token)
    assert answer.status == status
    if status != 202:
        assert answer.json["code"] in ("unauthorized", "forbidden")
        assert world.store.calls.seen == []


def test_without_configured_tokens_nobody_should_get_in_but_a_developer() -> None:
    closed = World(given=settings(GPULAUNCH_ADMIN_TOKENS="", GPULAUNCH_READ_TOKENS=""))
    assert closed.call("POST", PATH, SEED, token="x" * 20).status == 401
    opened = World(
        given=settings(GPULAUNCH_ADMIN_TOKENS="", GPULAUNCH_READ_TOKENS="", AZURE_FUNCTIONS_ENVIRONMENT="Development")
    )
    headers = {"Content-Type": "application/json"}
    assert opened.call("POST", PATH, SEED, token=None, headers=headers).status == 202


class TestIdempotency:
    def test_the_same_key_and_body_should_give_the_same_answer_and_one_instance(self, world: World) -> None:
        first = world.call("POST", PATH, SEED, headers={"Idempotency-Key": "one"})
        again = world.call("POST", PATH, dict(reversed(SEED.items())), headers={"Idempotency-Key": "one"})
        assert (first.status, again.status) == (202, 202)
        assert again.body == first.body
        assert len(list(world.store.live())) == 1

    def test_the_same_key_with_another_body_should_be_a_conflict(self, world: World) -> None:
        world.call("POST", PATH, SEED, headers={"Idempotency-Key": "one"})
        other = world.call("POST", PATH, SEED | {"use_spot": False}, headers={"Idempotency-Key": "one"})
        assert other.status == 409
        assert other.json["code"] == "idempotency_key_reused"

    def test_another_key_should_be_another_instance(self, world: World) -> None:
        ids = {
            world.call("POST", PATH, SEED, headers={"Idempotency-Key": key}).json["instance_id"] for key in ("a", "b")
        }
        assert len(ids) == 2

    def test_two_at_the_same_time_should_become_one(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        first = world.call("POST", PATH, SEED, headers={"Idempotency-Key": "one"})
        answers = iter([None, None, world.store.idempotency])

        def looked_too_early(key_hash: str) -> IdempotencyEntry | None:
            really = next(answers)
            return None if really is None else really(key_hash)

        monkeypatch.setattr(world.store, "idempotency", looked_too_early)
        assert world.call("POST", PATH, SEED, headers={"Idempotency-Key": "one"}).body == first.body
        assert len(list(world.store.live())) == 1

    @pytest.mark.parametrize("key", ["x", "x" * 255])
    def test_a_key_of_any_length_that_is_allowed_should_be_taken(self, world: World, key: str) -> None:
        answers = [world.call("POST", PATH, SEED, headers={"Idempotency-Key": key}) for _ in range(2)]
        assert [answer.status for answer in answers] == [202, 202]
        assert len(list(world.store.live())) == 1

    @pytest.mark.parametrize("key", ["x" * 256, "line\nbreak"])
    def test_a_key_that_is_none_should_be_refused(self, world: World, key: str) -> None:
        assert "Idempotency-Key" in problem(world, SEED, headers={"Idempotency-Key": key})


def test_a_lost_message_should_be_made_good_by_the_sweep(world: World) -> None:
    world.queues.calls.fail_next("send", StoreUnavailableError("no answer"))
    instance_id = world.launch()
    world.run(15)
    assert world.show(instance_id)["phase"] == "queued"
    world.run(150)
    assert world.show(instance_id)["phase"] == "ready"


def test_storage_that_does_not_answer_should_be_a_503(world: World) -> None:
    world.store.calls.fail_next("create", StoreUnavailableError("no answer"))
    answer = world.call("POST", PATH, SEED)
    assert answer.status == 503
    assert answer.headers["Retry-After"]


def test_an_unforeseen_error_should_be_a_500_with_an_id_and_no_details(world: World) -> None:
    world.store.calls.fail_next("create", RuntimeError("secret inside"))
    answer = world.call("POST", PATH, SEED)
    assert answer.status == 500
    assert "secret inside" not in answer.body.decode()
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]


def test_secrets_should_not_come_back_in_answers(world: World) -> None:
    instance_id = world.launch()
    world.run(90)
    key = world.call("GET", f"/api/instances/{instance_id}/credentials").json["api_key"]
    for path in ("", "/events", "/logs"):
        assert key not in world.call("GET", f"/api/instances/{instance_id}{path}").body.decode()
    config = world.call("GET", "/api/config").body.decode()
    assert all(SecretStr(secret).get_secret_value() not in config for secret in (ADMIN, READER))
