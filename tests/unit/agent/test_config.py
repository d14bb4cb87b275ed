"""The agent's environment, log and headers."""

from shared.agent.node.config import Config
from shared.agent.node.log import Log
from shared.agent.node.transport import retry_after


def test_secrets_leave_the_environment() -> None:
    environ = {
        "GPULAUNCH_INSTANCE": "i",
        "GPULAUNCH_ATTEMPT": "1",
        "GPULAUNCH_LEASE_SECONDS": "900",
        "GPULAUNCH_DEADLINE": "2026-01-31T10:00:00.000Z",
        "GPULAUNCH_NODE_TOKEN": "secret-1",
        "GPULAUNCH_AGENT_TOKEN": "secret-2",
    }
    taken = Config.take(environ)
    assert (taken.node_token, taken.agent_token) == ("secret-1", "secret-2")
    assert not any("secret" in value for value in environ.values())
    assert taken.deadline == 1769853600


def test_logs_hide_secrets_and_signatures() -> None:
    log = Log()
    log.hide("topsecret", None, "")
    text = "Bearer topsecret from https://s/b/k?X-Amz-Signature=abc, done"
    assert log.clean(text) == "Bearer [hidden] from https://s/b/k?[hidden] done"
    assert log.clean("Authorization: none") == "Authorization: none"


def test_logs_hide_secrets_in_the_forms_in_which_they_are_printed() -> None:
    log = Log()
    log.hide("a/b+c\\d\n")
    for text in ("a%2Fb%2Bc%5Cd%0A", "a/b%2Bc%5Cd%0A", '"a/b+c\\\\d\\n"', "a/b+c\\d\n"):
        assert "b" not in log.clean(text)


def test_retry_after_is_bounded() -> None:
    assert retry_after({"Retry-After": "7"}) == 7
    assert retry_after({"Retry-After": "86400"}) == 120
    assert retry_after({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}) == 0
    assert retry_after({}) == 0
