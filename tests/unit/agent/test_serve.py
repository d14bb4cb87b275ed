"""vLLM's load and the launch's job."""

from pathlib import Path

from shared.agent.node.job import JobRun
from shared.agent.node.log import Log
from shared.agent.node.serve import parse_load, passed_on
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


KEPT = """
PATH LD_LIBRARY_PATH CUDA_VISIBLE_DEVICES https_proxy NCCL_DEBUG VLLM_LOGGING_LEVEL HF_HOME TOKENIZERS_PARALLELISM
SLURM_JOB_ID PYTORCH_CUDA_ALLOC_CONF KEYBOARD PATTERN GPULAUNCH_CLUSTER
"""
SECRETS = """
GPULAUNCH_CLUSTER_KEY SKYPILOT_TASK_ID HF_TOKEN OPENAI_API_KEY AWS_SECRET_ACCESS_KEY PGPASSWORD AZURE_CLIENT_SECRET
GOOGLE_APPLICATION_CREDENTIALS github_token SLURM_JWT VLLM_API_KEY
"""


def test_secrets_of_the_node_should_not_reach_vllm_and_the_rest_should() -> None:
    assert set(passed_on(dict.fromkeys((KEPT + SECRETS).split(), "x"))) == set(KEPT.split())
