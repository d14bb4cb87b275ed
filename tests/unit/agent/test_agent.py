"""The agent's parts with injected time and transport."""

import ast
import errno
import io
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.agent import agent
from shared.domain.node import Heartbeat, NodeRegistration, NodeStatus, NoticeReport

NOW = 1_770_000_000.0


class Clock(agent.Clock):
    """A clock that waits by moving its hands."""

    def __init__(self) -> None:
        self.at = 0.0
        self.waited: list[float] = []

    def now(self) -> float:
        return NOW + self.at

    def ticks(self) -> float:
        return self.at

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waited.append(seconds)
        self.at += seconds
        return event.is_set()


class Answer(io.BytesIO):
    def __init__(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(body)
        self.status = status
        self.headers = dict(headers or {})


class Http(agent.Http):
    """Answers from a function of (method, url, headers)."""

    def __init__(self, answer: Callable[[str, str, Mapping[str, str]], Answer]) -> None:
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self._answer = answer

    def open(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, timeout: float = 30.0
    ) -> Any:
        self.seen.append((method, url, dict(headers)))
        return self._answer(method, url, headers)


Answers = Callable[[str, str, Mapping[str, str]], Answer]


def always(make: Callable[[], Answer]) -> Answers:
    """The same answer, made anew, to everything."""

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        return make()

    return answer


def said(status: int, value: object, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(value).encode(), headers)


def config(**values: str) -> agent.Config:
    base = {"GPULAUNCH_INSTANCE": "inst-1", "GPULAUNCH_ATTEMPT": "1", "GPULAUNCH_LEASE_SECONDS": "900"}
    base |= {
        "GPULAUNCH_DEADLINE": "2026-01-31T10:00:00.000Z",
        "GPULAUNCH_URL": "https://app",
        "GPULAUNCH_CLUSTER": "gl-1",
    }
    return agent.Config.take(base | values)


# ---- environment and small functions


def test_secrets_leave_the_environment() -> None:
    environ = {
        "GPULAUNCH_INSTANCE": "i",
        "GPULAUNCH_ATTEMPT": "1",
        "GPULAUNCH_LEASE_SECONDS": "900",
        "GPULAUNCH_DEADLINE": "2026-01-31T10:00:00.000Z",
        "GPULAUNCH_NODE_TOKEN": "secret-1",
        "GPULAUNCH_AGENT_TOKEN": "secret-2",
    }
    taken = agent.Config.take(environ)
    assert (taken.node_token, taken.agent_token) == ("secret-1", "secret-2")
    assert not any("secret" in value for value in environ.values())
    assert taken.deadline == 1769853600


def test_the_text_is_understood_by_python_3_9() -> None:
    ast.parse(Path(agent.__file__).read_text(), feature_version=(3, 9))


def test_logs_hide_secrets_and_signatures() -> None:
    log = agent.Log()
    log.hide("topsecret", None, "")
    text = "Bearer topsecret from https://s/b/k?X-Amz-Signature=abc, done"
    assert log.clean(text) == "Bearer [hidden] from https://s/b/k?[hidden] done"
    assert log.clean("Authorization: none") == "Authorization: none"


def test_load_is_summed_over_engines_and_absent_when_unknown() -> None:
    text = (
        "# HELP vllm:num_requests_running x\n"
        'vllm:num_requests_running{engine="0"} 1.0\nvllm:num_requests_running{engine="1"} 2.0\n'
        'vllm:num_requests_waiting_by_reason{engine="0"} 9.0\nvllm:num_requests_waiting 4\n'
    )
    assert agent.parse_load(text) == {"running_requests": 3.0, "waiting_requests": 4.0}
    assert agent.parse_load("# nothing") == {}
    Heartbeat.model_validate(agent.parse_load(text))


@pytest.mark.parametrize(
    ("names", "args", "kept"),
    [
        (["a.safetensors", "a.bin", "pytorch_model.bin.index.json", "x.json"], [], ["a.safetensors", "x.json"]),
        (["a.bin", "a.pth", "x.model"], [], ["a.bin", "x.model"]),
        (
            ["original/a.pth", "onnx/a.onnx", "q.gguf", ".gitattributes", "README.md", "a.safetensors"],
            [],
            ["a.safetensors"],
        ),
        (["model-1.safetensors", "consolidated.safetensors"], [], ["model-1.safetensors"]),
        (
            ["model-1.safetensors", "consolidated.safetensors"],
            ["--load-format", "mistral"],
            ["model-1.safetensors", "consolidated.safetensors"],
        ),
        (["consolidated.safetensors", "params.json"], [], ["consolidated.safetensors", "params.json"]),
        (
            ["modeling_x.py", "sub/config.json", "chat_template.jinja"],
            [],
            ["modeling_x.py", "sub/config.json", "chat_template.jinja"],
        ),
    ],
)
def test_of_the_hub_only_what_vllm_needs_is_wanted(names: list[str], args: list[str], kept: list[str]) -> None:
    assert agent.wanted(names, args) == kept


def test_retry_after_is_bounded() -> None:
    assert agent.retry_after({"Retry-After": "7"}) == 7
    assert agent.retry_after({"Retry-After": "86400"}) == 120
    assert agent.retry_after({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}) == 0
    assert agent.retry_after({}) == 0


def test_the_slurm_job_is_found_in_the_environment_the_group_or_an_ancestor(tmp_path: Path) -> None:
    assert agent.slurm_job({"SLURM_JOB_ID": "12"}, tmp_path) == "12"
    assert agent.slurm_job({}, tmp_path) is None
    for pid, group, parent, environ in (("self", "0::/x", "77", ""), ("77", "", "1", "A=1\0SLURM_JOB_ID=34\0")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cgroup").write_text(group)
        (tmp_path / pid / "stat").write_text(f"5 (py) thon) S {parent} 5")
        (tmp_path / pid / "environ").write_text(environ)
    assert agent.slurm_job({}, tmp_path) == "34"
    (tmp_path / "self" / "cgroup").write_text("0::/system.slice/slurmstepd.scope/job_56/step_0")
    assert agent.slurm_job({}, tmp_path) == "56"


# ---- lease and reports


def control(
    answer: Callable[[str, str, Mapping[str, str]], Answer], clock: Clock
) -> tuple[agent.ControlPlane, agent.Lease]:
    lease = agent.Lease(clock, 900)
    return agent.ControlPlane(config(GPULAUNCH_NODE_TOKEN="t"), Http(answer), lease, agent.Log()), lease


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500, 503])
def test_no_error_renews_the_lease(status: int) -> None:
    clock = Clock()
    plane, lease = control(always(lambda: said(status, {"lease_seconds": 900}, {"Retry-After": "3"})), clock)
    clock.at = 899
    with pytest.raises(agent.AgainError) as caught:
        plane.call("heartbeat", {})
    assert caught.value.after == 3
    assert not lease.over
    clock.at = 900
    assert lease.lost


def test_success_renews_the_lease_for_as_long_as_it_says() -> None:
    clock = Clock()
    plane, lease = control(always(lambda: said(200, {"renewed": True, "lease_seconds": 100})), clock)
    clock.at = 899
    plane.call("heartbeat", {})
    clock.at = 998
    assert not lease.lost
    clock.at = 999
    assert lease.lost


@pytest.mark.parametrize("answer", [(410, {}), (200, {"renewed": False, "lease_seconds": 0})])
def test_a_word_that_it_is_over_ends_the_node(answer: tuple[int, object]) -> None:
    plane, lease = control(always(lambda: said(*answer)), Clock())
    plane.call("heartbeat", {})
    assert lease.over


class Plane:
    """Takes calls, or not."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.error: agent.AgainError | None = None

    def call(self, name: str, body: Any = None) -> Any:
        if self.error is not None:
            raise self.error
        self.calls.append((name, body))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


def reporting() -> tuple[agent.Reporter, agent.State, Plane, Clock]:
    clock, plane, log = Clock(), Plane(), agent.Log()
    state = agent.State(log)
    made = agent.Reporter(
        state=state,
        control=cast("agent.ControlPlane", plane),
        lease=agent.Lease(clock, 100),
        clock=clock,
        load=lambda: {"running_requests": 1.0},
        log=log,
    )
    return made, state, plane, clock


def settle(reporter: agent.Reporter) -> None:
    while reporter.step() == 0:
        pass


def test_each_phase_is_told_once_and_bytes_every_five_seconds() -> None:
    reporter, state, plane, clock = reporting()
    settle(reporter)
    assert plane.calls == [("progress", {"phase": "installing"})]
    state.total = 10
    state.add_fetched(4)
    clock.at = 4.9
    settle(reporter)
    assert len(plane.calls) == 1
    clock.at = 5.0
    settle(reporter)
    assert plane.calls[1:] == [("progress", {"phase": "installing", "fetched_bytes": 4, "total_bytes": 10})]
    clock.at = 24.9
    settle(reporter)
    assert len(plane.calls) == 2, "nothing moved: a fifth of the lease is soon enough"
    clock.at = 25.0
    settle(reporter)
    assert len(plane.calls) == 3
    for _, body in plane.calls:
        NodeStatus.model_validate(body)


def test_a_serving_node_registers_once_and_beats() -> None:
    reporter, state, plane, clock = reporting()
    state.port, state.version = 8000, "0.32.0"
    state.enter(agent.SERVING)
    settle(reporter)
    assert plane.names == ["progress", "register"]
    NodeRegistration.model_validate(plane.calls[1][1])
    clock.at = 19.9
    settle(reporter)
    assert len(plane.calls) == 2
    clock.at = 20
    settle(reporter)
    assert plane.calls[2] == ("heartbeat", {"running_requests": 1.0})


def test_what_was_not_taken_is_told_again_after_a_pause() -> None:
    reporter, state, plane, _ = reporting()
    plane.error = agent.AgainError("down", 17)
    assert reporter.step() == 17
    plane.error = agent.AgainError("down")
    pauses = [reporter.step() for _ in range(8)]
    assert all(1 <= pause <= 30 for pause in pauses)
    assert pauses[-1] >= 15
    plane.error = None
    state.finish_job(3)
    state.warn("eviction", 25.0)
    settle(reporter)
    assert plane.names == ["notice", "progress", "complete"]
    NoticeReport.model_validate(plane.calls[0][1])
    assert reporter.noticed.is_set()
    settle(reporter)
    assert len(plane.calls) == 3


def test_the_first_notice_counts_and_a_failed_node_stays_failed() -> None:
    state = agent.State(agent.Log())
    state.warn("eviction")
    state.warn("sigterm")
    assert state.notice == "eviction"
    state.enter(agent.FAILED, "why", "server_failed")
    state.enter(agent.SERVING)
    assert (state.phase, state.failure) == ("failed", "server_failed")
    state.enter(agent.STOPPING)
    assert state.phase == "stopping"


def test_a_failure_comes_with_the_last_lines_hidden_and_bounded() -> None:
    log = agent.Log()
    log.hide("topsecret")
    state = agent.State(log)
    state.tail = lambda: [f"{number} topsecret " + "x" * 5000 for number in range(300)]
    state.enter(agent.FAILED, "y" * 5000, "server_failed")
    status = NodeStatus.model_validate(state.status(200))
    assert len(status.log_tail) == 200
    assert status.log_tail[-1].startswith("299 [hidden]")


# ---- fetching


def fetching(
    folder: Path, answer: Callable[[str, str, Mapping[str, str]], Answer]
) -> tuple[agent.Fetcher, Http, Clock]:
    clock, transport = Clock(), Http(answer)
    made = agent.Fetcher(
        folder=folder, transport=transport, clock=clock, state=agent.State(agent.Log()), stop=threading.Event()
    )
    return made, transport, clock


def part(body: bytes, headers: Mapping[str, str], **more: str) -> Answer:
    first, last = (int(end) for end in headers["Range"].removeprefix("bytes=").split("-"))
    last = min(last, len(body) - 1)
    return Answer(206, body[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(body)}", **more})


def ranges_of(body: bytes) -> Callable[[str, str, Mapping[str, str]], Answer]:
    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        return part(body, headers)

    return answer


FILE = {"path": "m.bin", "url": "https://s/m.bin?sig=1", "size": 10}


def test_a_connection_that_ends_early_goes_on_where_it_ended(tmp_path: Path) -> None:
    body, tries = b"0123456789", iter([4, 3, 10])

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        whole = part(body, headers)
        return Answer(206, whole.getvalue()[: next(tries)], whole.headers)

    fetcher, transport, _ = fetching(tmp_path, answer)
    fetcher.fetch([FILE])
    assert (tmp_path / "m.bin").read_bytes() == body
    assert [headers["Range"] for _, _, headers in transport.seen] == ["bytes=0-9", "bytes=4-9", "bytes=7-9"]


def test_one_request_asks_for_several_ranges_and_fewer_towards_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "RANGE", 2)
    monkeypatch.setattr(agent, "STRETCH", 3)
    monkeypatch.setattr(agent, "CONNECTIONS", 1)
    body = b"0123456789"
    fetcher, transport, _ = fetching(tmp_path, ranges_of(body))
    other = {"path": "n.bin", "url": "https://s/n.bin?sig=1", "size": 10}
    fetcher.fetch([FILE, other])
    assert (tmp_path / "m.bin").read_bytes() == (tmp_path / "n.bin").read_bytes() == body
    asked = [(url[10:15], headers["Range"].removeprefix("bytes=")) for _, url, headers in transport.seen]
    assert asked == [("m.bin", "0-5"), ("m.bin", "6-9"), ("n.bin", "0-5"), ("n.bin", "6-9")]
    monkeypatch.setattr(agent, "CONNECTIONS", 5)
    fetcher, transport, _ = fetching(tmp_path / "b", ranges_of(body))
    fetcher.fetch([FILE])
    assert len(transport.seen) == 5, "no connection takes what others could"


def test_of_a_request_that_broke_only_what_is_missing_is_fetched_again_even_by_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "RANGE", 4)
    monkeypatch.setattr(agent, "CONNECTIONS", 1)
    monkeypatch.setattr(agent, "TRIES", 1)
    body = b"0123456789"

    def broken(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        whole = part(body, headers)
        return Answer(206, whole.getvalue()[:6], whole.headers)

    fetcher, _, _ = fetching(tmp_path, broken)
    with pytest.raises(agent.FailureError, match="ended early"):
        fetcher.fetch([FILE])
    fetcher, transport, _ = fetching(tmp_path, ranges_of(body))
    fetcher.fetch([FILE])
    assert [headers["Range"] for _, _, headers in transport.seen] == ["bytes=4-9"]
    assert (tmp_path / "m.bin").read_bytes() == body


def test_a_store_that_never_answers_is_given_up_with_growing_pauses(tmp_path: Path) -> None:
    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        raise ConnectionRefusedError("refused")

    fetcher, transport, clock = fetching(tmp_path, answer)
    with pytest.raises(agent.FailureError, match=r"m\.bin: ConnectionRefusedError: refused, after 8 tries"):
        fetcher.fetch([FILE])
    assert len(transport.seen) == 8
    assert all(min(60, 2.0**number) / 2 <= pause <= min(60, 2.0**number) for number, pause in enumerate(clock.waited))


def test_a_store_says_how_long_to_wait(tmp_path: Path) -> None:
    answers = [Answer(429, headers={"Retry-After": "42"})]

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        return answers.pop() if answers else part(b"0123456789", headers)

    fetcher, _, clock = fetching(tmp_path, answer)
    fetcher.fetch([FILE])
    assert clock.waited == [42]


def test_a_full_disk_is_told_with_the_bytes_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=9)

    monkeypatch.setattr(agent.shutil, "disk_usage", usage)
    fetcher, transport, _ = fetching(tmp_path, always(lambda: Answer(500)))
    with pytest.raises(agent.FailureError, match="disk full: the model needs 10 more bytes, 9 are free"):
        fetcher.fetch([FILE])
    assert not transport.seen


def test_a_disk_that_fills_up_is_told_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def note(remote: agent.Remote) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(agent.Remote, "note", note)
    fetcher, _, _ = fetching(tmp_path, always(lambda: part(b"0123456789", {"Range": "bytes=0-9"})))
    with pytest.raises(agent.FailureError, match="disk full: the model needs"):
        fetcher.fetch([FILE])


def test_a_file_that_changes_on_its_way_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "RANGE", 4)
    monkeypatch.setattr(agent, "STRETCH", 1)
    monkeypatch.setattr(agent, "CONNECTIONS", 1)
    tags = iter(['"1"', '"1"', '"2"'])

    def changing(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        return part(b"0123456789", headers, ETag=next(tags))

    fetcher, _, _ = fetching(tmp_path, changing)
    with pytest.raises(agent.FailureError, match=r"m\.bin changed while it was fetched"):
        fetcher.fetch([FILE])
    assert not (tmp_path / "m.bin").exists()
    assert not (tmp_path / "m.bin.part.json").exists()


def test_a_store_without_ranges_serves_small_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher, _, _ = fetching(tmp_path, always(lambda: Answer(200, b"0123456789", {"Content-Length": "10"})))
    fetcher.fetch([FILE])
    assert (tmp_path / "m.bin").read_bytes() == b"0123456789"
    monkeypatch.setattr(agent, "RANGE", 4)
    fetcher, _, _ = fetching(tmp_path / "b", always(lambda: Answer(200, b"0123456789", {"Content-Length": "10"})))
    with pytest.raises(agent.FailureError, match="does not answer range requests"):
        fetcher.fetch([FILE])


def test_redirects_drop_the_token_on_other_hosts_and_never_leave_https(tmp_path: Path) -> None:
    targets = {"https://s/m.bin?sig=1": "/elsewhere", "https://s/elsewhere": "https://cdn/x"}

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        return Answer(302, headers={"Location": targets[url]}) if url in targets else part(b"0123456789", headers)

    fetcher, transport, _ = fetching(tmp_path, answer)
    fetcher.fetch([FILE], {"Authorization": "Bearer t"})
    assert ["Authorization" in headers for _, _, headers in transport.seen] == [True, True, False]
    targets["https://s/elsewhere"] = "http://cdn/x"
    fetcher, _, _ = fetching(tmp_path / "b", answer)
    with pytest.raises(agent.FailureError, match="refused a redirect"):
        fetcher.fetch([FILE])


def test_a_hub_without_weights_or_access_says_so() -> None:
    assignment: dict[str, Any] = {"hub_model": "o/m", "hub_endpoint": "https://hub", "vllm_args": [], "hub_token": None}

    def listed(answer: Answer) -> None:
        agent.Hub(assignment, Http(always(lambda: answer)), Clock(), threading.Event()).files()

    with pytest.raises(agent.FailureError, match="no weights that vLLM can load"):
        listed(said(200, {"sha": "1", "siblings": [{"rfilename": "m.gguf", "size": 1}]}))
    with pytest.raises(agent.FailureError, match="HF_TOKEN"):
        listed(said(401, {}))
    with pytest.raises(agent.FailureError, match="no such model"):
        listed(said(404, {}))


# ---- the cloud


def cloud(
    name: str, answer: Callable[[str, str, Mapping[str, str]], Answer], code: int = 0
) -> tuple[agent.Cloud, Http, Clock, list[list[str]]]:
    clock, transport, ran = Clock(), Http(answer), list[list[str]]()

    def run(command: list[str], **_: object) -> SimpleNamespace:
        ran.append(command)
        return SimpleNamespace(returncode=code)

    return agent.Cloud(config(GPULAUNCH_CLOUD=name), transport, clock, agent.Log(), run), transport, clock, ran


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({"EventType": "Preempt", "NotBefore": "", "Resources": ["vm-1"]}, (True, None)),
        ({"EventType": "Preempt", "NotBefore": "Mon, 02 Feb 2026 02:40:30 GMT", "Resources": []}, (True, 30.0)),
        ({"EventType": "Preempt", "NotBefore": "", "Resources": ["vm-2"]}, (False, None)),
        ({"EventType": "Reboot", "NotBefore": "", "Resources": ["vm-1"]}, (False, None)),
    ],
)
def test_azures_notices(event: dict[str, Any], found: tuple[bool, float | None]) -> None:
    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        assert headers["Metadata"] == "true"
        return said(200, {"name": "vm-1"} if "compute" in url else {"Events": [event]})

    assert cloud("azure", answer)[0].eviction() == found


def test_amazons_notice_needs_a_session() -> None:
    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        if method == "PUT":
            return Answer(200, b"session")
        assert headers["X-aws-ec2-metadata-token"] == "session"
        return said(200, {"action": "terminate", "time": "2026-02-02T02:41:00Z"}) if later else Answer(404)

    later = False
    watched, transport, _, _ = cloud("aws", answer)
    assert watched.eviction() == (False, None)
    later = True
    assert watched.eviction() == (True, 60.0)
    assert [method for method, _, _ in transport.seen] == ["PUT", "GET", "GET"]


@pytest.mark.parametrize(("text", "found"), [(b"TRUE", True), (b"FALSE", False)])
def test_googles_notice(text: bytes, found: bool) -> None:
    assert cloud("gcp", always(lambda: Answer(200, text)))[0].eviction()[0] is found


def test_a_silent_metadata_service_is_asked_again() -> None:
    over, asked = threading.Event(), [0]

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        asked[0] += 1
        if asked[0] == 1:
            raise TimeoutError
        return Answer(200, b"TRUE")

    watched, _, clock, _ = cloud("gcp", answer)
    state = agent.State(agent.Log())
    watched.watch(state, over)
    assert (state.notice, clock.waited) == ("eviction", [30])


class EndedError(Exception):
    """Stands for the machine's death."""


def test_azure_asks_again_and_then_for_the_next_best() -> None:
    seen: list[str] = []

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        if "compute?" in url:
            return said(200, {"subscriptionId": "s", "resourceGroupName": "gl-1-aaaa-eastus", "name": "vm-1"})
        if "oauth2" in url:
            return said(200, {"access_token": "t"})
        seen.append(method)
        if seen.count("POST") == 1:
            raise EndedError
        return Answer(202)

    ended, _, clock, _ = cloud("azure", answer)
    with pytest.raises(EndedError):
        ended.end_machine()
    assert seen == ["DELETE", "DELETE", "DELETE", "DELETE", "POST"]
    assert clock.waited == [60, 60, 60]


def test_a_group_of_another_cluster_with_our_name_in_front_is_not_ours() -> None:
    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        if "compute?" in url:
            return said(200, {"subscriptionId": "s", "resourceGroupName": "gl-10-aaaa-eastus", "name": "vm-1"})
        if "oauth2" in url:
            return said(200, {"access_token": "t"})
        assert method == "POST"
        raise EndedError

    with pytest.raises(EndedError):
        cloud("azure", answer)[0].end_machine()


def test_google_deletes_its_own_instance() -> None:
    answers = {
        "token": b'{"access_token": "t"}',
        "zone": b"projects/1/zones/us-central1-a",
        "project-id": b"p",
        "name": b"n",
    }

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        if method == "DELETE":
            assert headers["Authorization"] == "Bearer t"
            assert url.endswith("/projects/p/zones/us-central1-a/instances/n")
            raise EndedError
        return Answer(200, answers[url.rpartition("/")[2]])

    with pytest.raises(EndedError):
        cloud("gcp", answer)[0].end_machine()


def test_amazon_shuts_down_until_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, _, clock, ran = cloud("aws", always(lambda: Answer(404)), code=1)
    monkeypatch.setattr(agent.os, "geteuid", lambda: 1000)

    def wait(event: threading.Event, seconds: float) -> bool:
        if len(ran) == 3:
            raise EndedError
        return False

    clock.wait = wait
    with pytest.raises(EndedError):
        ended.end_machine()
    assert ran == [["sudo", "-n", "shutdown", "-h", "now"]] * 3


def test_without_rights_a_pod_ends_only_its_processes() -> None:
    ended, _, clock, ran = cloud("kubernetes", always(lambda: Answer(404)))
    ended.end_machine()
    assert not ran
    assert clock.waited == [10, 10, 10]


def test_on_an_unknown_cloud_nothing_is_tried() -> None:
    ended, transport, _, ran = cloud("", always(lambda: Answer(404)))
    ended.end_machine()
    assert not ran
    assert not transport.seen


# ---- the job


def test_a_job_is_stopped_after_its_time(tmp_path: Path) -> None:
    clock, state = Clock(), agent.State(agent.Log())
    job = agent.Job(config(GPULAUNCH_WORK_DIR=str(tmp_path)), clock, state)
    told = {"job": {"command": ["sleep", "60"], "timeout_minutes": 1}, "api_key": "k"}
    job.advance(told, {"PATH": "/usr/bin:/bin"})
    clock.at = 59
    job.advance(told, {})
    assert state.exit_code is None
    clock.at = 60
    job.advance(told, {})
    assert state.exit_code == 124
    again = agent.State(agent.Log())
    agent.Job(config(GPULAUNCH_WORK_DIR=str(tmp_path)), clock, again).advance(told, {})
    assert again.exit_code == 124, "a job that has run is not run again by a restarted agent"
