import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devhost.azurite import free_ports

from .conftest import APP, PATIENCE, ROOT, Host, wait_for


def test_an_app_should_serve_requests_and_stop_with_status_0(host: Host) -> None:
    host.start()
    assert f"host started on http://localhost:{host.port} with 6 functions" in host.text
    assert host.get("/api/health") == b'{"status": "ok"}'
    echoed = json.loads(host.get("/api/echo/12?a=1"))
    assert (echoed["route"], echoed["query"]) == ({"id": "12"}, {"a": "1"})
    with pytest.raises(urllib.error.HTTPError, match="500") as broken:
        host.get("/api/broken")
    assert broken.value.read() == b""
    broken.value.close()
    wait_for(lambda: host.recorded("tick"), "the timer")
    assert host.stop() == 0
    assert "broken on purpose" in host.text
    assert "host stopped" in host.text


def test_a_chunked_request_should_arrive_with_an_empty_body(host: Host) -> None:
    host.start()
    connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=PATIENCE)
    connection.request("POST", "/api/echo/1", body=iter([b"hello"]), encode_chunked=True)
    assert json.loads(connection.getresponse().read())["body"] == 0
    connection.request("POST", "/api/echo/1", body=b"hello")
    assert json.loads(connection.getresponse().read())["body"] == 5
    connection.close()


def test_large_bodies_of_strangers_should_cost_no_memory(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen of 100 MiB at once; the genuine host of 2 GB ends with four of them where no limit is set."""
    monkeypatch.setenv("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", "2097152")
    host.start()
    before = host.memory()

    def post() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=PATIENCE)
        connection.putrequest("POST", "/api/echo/1")
        connection.putheader("Content-Length", str(100 * 2**20))
        connection.endheaders()
        for _ in range(100):
            if select.select([connection.sock], [], [], 0)[0]:
                break  # it has answered
            connection.send(bytes(2**20))
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    with ThreadPoolExecutor(16) as pool:
        answers = [future.result() for future in [pool.submit(post) for _ in range(16)]]
    assert answers == [(500, b"")] * 16
    assert host.memory() - before < 64 * 2**20
    assert host.get("/api/health") == b'{"status": "ok"}'


def test_a_worker_that_dies_should_cost_its_calls_an_empty_500_and_be_replaced(host: Host) -> None:
    host.start()
    answers: list[tuple[int, bytes]] = []

    def slow() -> None:
        with pytest.raises(urllib.error.HTTPError) as broken:
            host.get("/api/slow?seconds=60")
        answers.append((broken.value.code, broken.value.read()))
        broken.value.close()

    with host.queue() as queue:
        queue.create_queue()
        queue.send_message("sleep 2")
        wait_for(lambda: host.recorded("work"), "the run")
        request = threading.Thread(target=slow)
        request.start()
        wait_for(lambda: host.recorded("slow"), "the call")
        os.kill(host.worker, signal.SIGKILL)
        request.join()
        assert answers == [(500, b"")]
        assert host.get("/api/health") == b'{"status": "ok"}'
        wait_for(lambda: host.recorded("slept"), "the message's second run")
    assert [run["dequeue"] for run in host.recorded("work")] == [1, 2]
    assert host.stop() == 0


def test_a_worker_should_end_with_its_host_in_the_middle_of_a_function(host: Host) -> None:
    host.start()
    with host.queue() as queue:
        queue.create_queue()
        queue.send_message("sleep 2")
        wait_for(lambda: host.recorded("work"), "the run")
        worker = host.worker
        assert host.stop(signal.SIGKILL) == -signal.SIGKILL
        wait_for(lambda: not Path(f"/proc/{worker}").exists(), "the worker's end")
    assert host.recorded("slept") == []


def test_messages_should_be_run_retried_and_poisoned(host: Host) -> None:
    # The trigger does not create its queue: it waits.
    host.start()
    wait_for(lambda: "does not exist yet" in host.text, "the missing queue")
    with host.queue() as queue, host.queue(encoded=False) as plain, host.queue("-poison", encoded=False) as poison:
        queue.create_queue()
        for text in ("fine", "fail"):
            queue.send_message(text)
        plain.send_message("not base64!")
        wait_for(lambda: len(host.recorded("work")) == 4, "four runs")
        wait_for(lambda: "failed for the last time" in host.text, "the poison queue")
        assert [run["dequeue"] for run in host.recorded("work") if run["work"] == "fail"] == [1, 2, 3]
        wait_for(lambda: len(poison.peek_messages(5)) == 2, "two poisoned messages")
        assert sorted(str(one.content) for one in poison.peek_messages(5)) == ["ZmFpbA==", "not base64!"]
        wait_for(lambda: queue.get_queue_properties().approximate_message_count == 0, "an empty queue")


def test_after_a_crash_a_message_should_come_back_when_its_lease_ends(host: Host) -> None:
    host.start("--lease", "2")
    with host.queue() as queue:
        queue.create_queue()
        queue.send_message("sleep 3.5")
        wait_for(lambda: host.recorded("work"), "the first run")
        assert host.stop(signal.SIGKILL) == -signal.SIGKILL
        host.start("--lease", "2")
        # 3.5 s is longer than the lease: had it not been renewed, a third run would begin.
        wait_for(lambda: host.recorded("slept"), "the second run's end")
        wait_for(lambda: queue.get_queue_properties().approximate_message_count == 0, "an empty queue")
    assert [run["dequeue"] for run in host.recorded("work")] == [1, 2]


def test_a_host_whose_storage_refuses_connections_should_serve_and_then_end(host: Host) -> None:
    """The platform starts another one, which meets the same storage: it starts, and ends likewise."""
    (nowhere,) = free_ports(1)
    host.start("--refused", "1", storage=f"QueueEndpoint=http://127.0.0.1:{nowhere}/a;AccountName=a;AccountKey=YQ==")
    assert host.get("/api/health") == b'{"status": "ok"}'
    assert host.process is not None
    assert host.process.wait(PATIENCE) == 1
    assert "a listener broke; the host stopped" in host.text


def test_a_stop_should_let_running_functions_end(host: Host) -> None:
    host.start()
    with host.queue() as queue:
        queue.create_queue()
        queue.send_message("sleep 1")
        answers: list[bytes] = []
        request = threading.Thread(target=lambda: answers.append(host.get("/api/slow?seconds=1")))
        request.start()
        wait_for(lambda: host.recorded("work"), "the run")
        assert host.stop(signal.SIGINT) == 0
        request.join()
        assert answers == [b"done"]
        assert host.recorded("slept") == [{"slept": "sleep 1"}]
        assert queue.get_queue_properties().approximate_message_count == 0


def test_a_stop_should_not_wait_for_ever_and_give_the_message_back(host: Host) -> None:
    host.start("--grace", "0.2")
    with host.queue() as queue:
        queue.create_queue()
        queue.send_message("sleep 60")
        wait_for(lambda: host.recorded("work"), "the run")
        assert host.stop() == 0
        assert len(queue.peek_messages(1)) == 1
    assert "1 functions did not end in time" in host.text


def test_a_second_interrupt_should_end_the_host_at_once(host: Host) -> None:
    host.start("--grace", "60")
    with host.queue() as queue:
        queue.create_queue()
        queue.send_message("sleep 60")
        wait_for(lambda: host.recorded("work"), "the run")
        assert host.process is not None
        host.process.send_signal(signal.SIGINT)
        wait_for(lambda: "stopping" in host.text, "the first interrupt")
        assert host.stop(signal.SIGINT) == 130


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WORK_QUEUE": "work", "AzureWebJobsStorage": "x"}
    command = [sys.executable, "-m", "devhost", "--app", str(folder), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_a_busy_port_should_be_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environment = {"AzureWebJobsStorage": "UseDevelopmentStorage=true"}
        command = [sys.executable, "-m", "devhost", "--app", str(APP), "--port", str(port)]
        ended = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(ROOT), "WORK_QUEUE": "work", **environment},
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (1, f"devhost: port {port} on 127.0.0.1 is in use\n")


def test_a_wrong_connection_string_should_be_one_clear_line() -> None:
    (port,) = free_ports(1)
    ended = run(APP, "--port", str(port))
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(
        "devhost: the setting 'AzureWebJobsStorage' is not a valid connection string"
    )


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import nowhere", "function_app.py cannot be indexed: ModuleNotFoundError: No module named 'nowhere'"),
        ("import azure.functions as func\napp = func.FunctionApp()", "0 functions found"),
        ("x = 1", "function_app.py cannot be indexed: AttributeError: module 'function_app' has no attribute 'app'"),
    ],
)
def test_an_app_that_cannot_be_indexed_should_never_be_silent(tmp_path: Path, source: str, line: str) -> None:
    shutil.copy(APP / "host.json", tmp_path)
    (tmp_path / "function_app.py").write_text(source, "utf-8")
    ended = run(tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"devhost: {line}")
    assert ("Traceback" in ended.stderr) == ("FunctionApp()" not in source)
