"""The cause of a failure in real logs of vLLM, uv and pip."""

import pytest

from shared.agent.node.cause import MOST, excerpt, of_installation, of_server

CORE = "(EngineCore_DP0 pid=812) ERROR 11-26 10:00:07 [core.py:708] "
AT = "ERROR 11-26 10:00:07 [multiproc_executor.py:597] "
API = "(APIServer pid=700) "
WRAPPED = f"""{API}Traceback (most recent call last):
{API}  File "/v/bin/vllm", line 8, in <module>
{API}    sys.exit(main())
{API}  File "/v/lib/vllm/v1/engine/utils.py", line 785, in wait_for_engine_startup
{API}    raise RuntimeError("Engine core initialization failed. "
{API}RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {{}}
[rank0]:[W1126 10:00:09.1 ProcessGroupNCCL.cpp:1538] Warning: WARNING: destroy_process_group() was not called
"""


def engine(*lines: str) -> str:
    """A log in which the engine fails with these last lines of its traceback."""
    begin = ["INFO 11-26 10:00:00 [api_server.py:1912] vLLM API server version 0.32.0", "EngineCore failed to start."]
    trace = ["Traceback (most recent call last):", '  File "/v/lib/vllm/v1/engine/core.py", line 699, in run', *lines]
    return "\n".join([begin[0], *(CORE + line for line in (begin[1], *trace)), *trace]) + "\n" + WRAPPED


OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has a total capacity of 22.06 GiB"
CACHE = (
    "ValueError: To serve at least one request with the models's max seq len (131072), 16.00 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (3.25 GiB)."
)
GATED = "OSError: You are trying to access a gated repo."


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (engine(OOM), OOM),
        (engine(CACHE), CACHE),
        (
            engine(
                "httpx.HTTPStatusError: Client error '403 Forbidden' for url 'https://huggingface.co/a/b'",
                "",
                "The above exception was the direct cause of the following exception:",
                "",
                "huggingface_hub.errors.GatedRepoError: 403 Client Error.",
                "",
                "The above exception was the direct cause of the following exception:",
                "",
                GATED,
                "Make sure to have access to it at https://huggingface.co/a/b.",
            ),
            f"{GATED} Make sure to have access to it at https://huggingface.co/a/b.",
        ),
        (
            engine(
                "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
                "  Value error, User-specified max_model_len (200000) is greater than the derived max_model_len",
            ),
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig Value error, "
            "User-specified max_model_len (200000) is greater than the derived max_model_len",
        ),
        (
            "vllm serve: error: argument --max-num-seqs: invalid int value: 'x'\n",
            "vllm serve: error: argument --max-num-seqs",
        ),
        (
            'Traceback (most recent call last):\n  File "/v/bin/vllm", line 5\n'
            "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory\n",
            "ImportError: libcuda.so.1",
        ),
        (
            f"(Worker_TP1 pid=9) {AT}RuntimeError: NCCL error: unhandled cuda error\n"
            f"(Worker_TP0 pid=8) {AT}ConnectionResetError: [Errno 104] reset\n"
            f"{CORE}Exception: WorkerProc initialization failed due to an exception in a background process.\n"
            + WRAPPED,
            "RuntimeError: NCCL error: unhandled cuda error",
        ),
        (
            f"(Worker_TP0 pid=8) {AT}ConnectionResetError: [Errno 104] reset\n(Worker_TP1 pid=9) {AT}{OOM}\n" + WRAPPED,
            OOM,
        ),
        (
            "WARNING 11-26 10:00:00 [x.py:1] ImportError: no triton\nERROR 11-26 10:00:01 [y.py:2] no GPU\n",
            "no GPU",
        ),
        ("one\ntwo\n\n", "two"),
        ("", "no output"),
    ],
)
def test_the_cause_of_a_server_that_ended_should_be_the_first_failure(log: str, cause: str) -> None:
    found, place = of_server(log.splitlines(), 1)
    assert found.startswith(cause)
    assert "See root cause above" not in found
    assert place is None or any(word in log.splitlines()[place] for word in cause.split()[:1])


CPP = """INFO 11-26 10:00:00 [x.py:1] Loading weights
terminate called after throwing an instance of 'c10::Error'
  what():  CUDA error: no kernel image is available for execution on the device
Exception raised from c10_cuda_check_implementation
"""
RUST = """thread '<unnamed>' panicked at tokenizers/src/lib.rs:10:5:
called `Result::unwrap()` on an `Err` value: Error("data did not match any variant")
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
"""
NCCL = """torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:94, unhandled system error
ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error.
Last error:
Error while creating shared memory segment /dev/shm/nccl-abc (size 9637888)
"""


@pytest.mark.parametrize(
    ("log", "code", "words"),
    [
        (CPP, -6, "CUDA error: no kernel image is available for execution on the device"),
        (RUST, 101, "data did not match any variant"),
        ("vllm: error while loading shared libraries: libcudart.so.12: cannot open\n", 127, "libcudart.so.12"),
        (NCCL, 1, "Error while creating shared memory segment /dev/shm/nccl-abc"),
        (f"RuntimeError: NCCL communicator was aborted\n{OOM}\n", 1, OOM),
        (f"FutureWarning: x is deprecated\n{OOM}\n", 1, OOM),
        (
            "  | ExceptionGroup: unhandled (1)\n  +-+---- 1 ----\n    | OSError: [Errno 98] in use\n",
            1,
            "OSError",
        ),
    ],
)
def test_the_cause_should_be_found_whatever_program_says_it(log: str, code: int, words: str) -> None:
    found, place = of_server(log.splitlines(), code)
    assert words in found
    assert place is not None


@pytest.mark.parametrize(
    ("code", "words"), [(-9, "memory was used up"), (137, "memory was used up"), (-11, "segmentation")]
)
def test_a_server_that_was_killed_should_say_what_kills(code: int, words: str) -> None:
    assert words in of_server(["INFO 11-26 10:00:00 [x.py:1] Loading weights"], code)[0]


def test_only_wrappers_should_still_be_told() -> None:
    assert "Engine core initialization failed" in of_server(WRAPPED.splitlines(), 1)[0]


UV = """Using Python 3.12.3 environment at: /v
  \u00d7 No solution found when resolving dependencies:
  ╰─▶ Because there is no version of vllm==9.9.9 and you require vllm==9.9.9, we can
      conclude that your requirements are unsatisfiable.
"""
UV_NET = """error: Failed to fetch: `https://pypi.org/simple/vllm/`
  Caused by: Request failed after 3 retries
  Caused by: error sending request for url (https://pypi.org/simple/vllm/)
  Caused by: dns error: failed to lookup address information
"""
PIP = """ERROR: Could not find a version that satisfies the requirement vllm==9.9.9 (from versions: 0.1.0, 0.32.0)
ERROR: No matching distribution found for vllm==9.9.9

[notice] A new release of pip is available: 24.0 -> 26.1
"""
PIP_CONFLICT = """ERROR: Cannot install vllm==0.32.0 and torch==1.0 because these package versions have conflicts.

The conflict is caused by:
    The user requested torch==1.0
    vllm 0.32.0 depends on torch==2.9.1

To fix this you could try to:
1. loosen the range of package versions you've specified
ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/
"""
PIP_NET = """WARNING: Retrying after connection broken by 'NewConnectionError('Name or service')': /simple/
ERROR: Could not find a version that satisfies the requirement vllm (from versions: none)
ERROR: No matching distribution found for vllm
"""
PIP_DISK = """Installing collected packages: torch
ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device

"""
PIP_BUILD = """  error: subprocess-exited-with-error
  \u00d7 python setup.py bdist_wheel did not run successfully.
  │ exit code: 1
      fatal error: Python.h: No such file or directory
  ERROR: Failed building wheel for xformers
ERROR: Failed to build installable wheels
"""


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (UV, "Because there is no version of vllm==9.9.9 and you require vllm==9.9.9, we can conclude"),
        (UV_NET, "dns error: failed to lookup address information"),
        (PIP, "Could not find a version that satisfies the requirement vllm==9.9.9"),
        (PIP_CONFLICT, "vllm 0.32.0 depends on torch==2.9.1"),
        (PIP_NET, "the package index cannot be reached"),
        (PIP_DISK, "the disk is full"),
        (PIP_BUILD, "Python.h: No such file or directory"),
        # The index answered at another try.
        (PIP_NET.splitlines()[0] + "\n" + PIP_BUILD, "Python.h: No such file or directory"),
        ("OSError: [Errno 122] Disk quota exceeded: '/home/x/.cache'\n", "the disk is full"),
        ("sh: 1: uv: not found\n", "uv: not found"),
        ("", "no output"),
    ],
)
def test_the_cause_of_a_failed_installation_should_not_be_its_last_line(log: str, words: str) -> None:
    found, _ = of_installation(log.splitlines())
    assert words in found
    assert "notice" not in found
    assert len(found) <= MOST


def test_an_installation_that_was_killed_should_say_so() -> None:
    assert "memory was used up" in of_installation(["Resolved 198 packages"], -9)[0]
    assert of_installation(["Resolved 198 packages"], 1)[0] == "Resolved 198 packages"
    assert "the disk is full" in of_installation(PIP_DISK.splitlines(), -9)[0]


def test_an_excerpt_should_show_the_cause_and_the_end() -> None:
    lines = [f"line {number}" for number in range(1000)]
    shown = excerpt(lines, 300)
    assert {"line 270", "line 300", "line 310", "…", "line 999"} <= set(shown)
    assert len(shown) <= 100
    assert excerpt(lines, 995)[-1] == "line 999"
    assert "line 995" in excerpt(lines, 995)
    assert excerpt(lines[:5], 2) == lines[:5]
    assert len(excerpt(lines, None)) <= 100
