"""vLLM's load and the launch's job."""

from pathlib import Path

from shared.agent.node.job import JobRun
from shared.agent.node.log import Log
from shared.agent.node.serve import parse_load
from shared.agent.node.state import State
from shared.domain.node import Heartbeat
from tests.unit.agent.fakes import FakeClock, node_config


def test_load_is_summed_over_engines_and_absent_when_unknown() -> None:
    text = (
        "# HELP vllm:num_requests_running x\n"
        'vllm:num_requests_running{engine="0"} 1.0\nvllm:num_requests_running{engine="1"} 2.0\n'
        'vllm:num_requests_waiting_by_reason{engine="0"} 9.0\nvllm:num_requests_waiting 4\n'
    )
    assert parse_load(text) == {"running_requests": 3.0, "waiting_requests": 4.0}
    assert parse_load("# nothing") == {}
    Heartbeat.model_validate(parse_load(text))


def test_a_job_is_stopped_after_its_time(tmp_path: Path) -> None:
    clock, state = FakeClock(), State(Log())
    job = JobRun(node_config(GPULAUNCH_WORK_DIR=str(tmp_path)), clock, state)
    assignment = {"job": {"command": ["sleep", "60"], "timeout_minutes": 1}, "api_key": "k"}
    job.advance(assignment, {"PATH": "/usr/bin:/bin"})
    clock.at = 59
    job.advance(assignment, {})
    assert state.exit_code is None
    clock.at = 60
    job.advance(assignment, {})
    assert state.exit_code == 124
    again = State(Log())
    JobRun(node_config(GPULAUNCH_WORK_DIR=str(tmp_path)), clock, again).advance(assignment, {})
    assert again.exit_code == 124, "a job that has run is not run again by a restarted agent"
