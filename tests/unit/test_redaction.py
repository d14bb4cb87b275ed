"""What people read carries no secret."""

import base64
import json
import logging
from collections.abc import Iterator
from html import escape
from urllib.parse import quote, quote_plus

import pytest

from shared.agent.node.log import Log
from shared.redaction import HIDDEN, Redactor, redact_all_logging


@pytest.fixture
def own_factory() -> Iterator[None]:
    factory = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(factory)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("the value planted-secret-one here", "planted-secret-one"),
        ("Authorization: Bearer abcdefgh12345678", "abcdefgh12345678"),
        ("api_key=abcdefgh12345678", "abcdefgh12345678"),
        ('{"token": "abcdefgh12345678"}', "abcdefgh12345678"),
        ("AccountKey=abcdefgh12345678==;Blob", "abcdefgh12345678"),
        ("GET https://x.r2/b/k?X-Amz-Credential=AB%2F1&X-Amz-Signature=deadbeef01 done", "deadbeef01"),
        ("https://a.blob.core.windows.net/c?sv=1&sig=abc%2Bdef%3D", "abc%2Bdef%3D"),
        ("hf_abcdefghijklmnopqrst", "hf_abcdefghijklmnopqrst"),
        ("key gl-" + "A" * 43 + " shown", "gl-" + "A" * 43),
        ("AKIAABCDEFGHIJKLMNOP", "AKIAABCDEFGHIJKLMNOP"),
    ],
)
def test_secrets_should_be_hidden(text: str, secret: str) -> None:
    redacted = Redactor(["planted-secret-one"]).text(text)
    assert secret not in redacted
    assert HIDDEN in redacted


ODD = "pl4nted/secret+of=all\\forms&<x>"


@pytest.mark.parametrize(
    "text",
    [
        f"GET /?key={quote(ODD)}",
        f"GET /?key={quote(ODD, safe='')}",
        f"key={quote_plus(ODD)}",
        json.dumps({"value": ODD}),
        repr([ODD]),
        f"<td>{escape(ODD)}</td>",
        f"header {base64.b64encode(ODD.encode()).decode()}",
        f"header {base64.urlsafe_b64encode(ODD.encode()).decode()}",
        f"line end at its end: {ODD}\n",
    ],
)
def test_a_secret_should_be_hidden_in_every_form_in_which_it_is_printed(text: str) -> None:
    shown = Redactor([ODD]).text(text)
    assert HIDDEN in shown
    assert "nted" not in shown.replace("planted", "")
    assert base64.b64encode(ODD.encode()).decode()[:12] not in shown


@pytest.mark.parametrize(
    "text",
    [
        "Looking in indexes: https://me:pl4nted@pypi.corp.example/simple",
        "ProxyError: http://me:pl4nted@proxy.corp.example:3128/",
        "amqp://:pl4nted@queue.example",
    ],
)
def test_the_password_in_an_address_should_be_hidden(text: str) -> None:
    assert "pl4nted" not in Redactor().text(text)
    log = Log()
    assert "pl4nted" not in log.clean(text)


@pytest.mark.parametrize(
    "text", ["https://host.example:8000/a@b", "git@github.com:org/x", "hf://org/m@v1:x", "a://b:c"]
)
def test_an_address_without_one_should_stay_as_it_is(text: str) -> None:
    assert Redactor().text(text) == text
    assert Log().clean(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "inst-01K0000000000000000000000A provisioning: Attempt 1: azure/eastus at 0.64 USD per hour.",
        "cluster gl-01k0000000000000000000000a-01 is gone",
        "The token is not one of a node of this instance.",
        "https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct?download=true",
    ],
)
def test_ordinary_text_should_stay_as_it_is(text: str) -> None:
    assert Redactor(["short", ""]).text(text) == text


@pytest.mark.parametrize(
    ("command", "places"),
    [
        (["curl", "-H", "Authorization: Bearer sk-live-abcdefghijklmnop"], [2]),
        (["eval", "--api-key", "ab12cd34ef56"], [2]),
        (["eval", "--api-key=ab12cd34ef56"], [1]),
        (["env", "WANDB_API_KEY=0123456789abcdef", "python", "x.py"], [1]),
        (["psql", "postgres://me:pass@db.example/x"], [1]),
        (["sh", "-c", "HF_TOKEN=hf_abcdefghijklmnopqrst python x.py"], [2]),
        (["get", "https://s3.example/a?X-Amz-Signature=deadbeef01"], [1]),
        (["curl", "-u", "reader:secret", "https://host.example"], [2]),
        (["curl", "--user=reader:secret", "https://host.example"], [1]),
        (["curl", "--proxy-user", "reader:p@ss:word"], [2]),
        (["sh", "-c", "curl -u 'reader:secret' https://host.example"], [2]),
        (["sh", "-c", "curl --user reader:secret https://host.example"], [2]),
        (["docker", "run", "-u", "1000:1000", "--user", "app:$GROUP", "-u", "https://host.example"], []),
        (["sh", "-c", 'curl -u "$NAME:$PASSWORD" https://host.example; docker run -u 1000:1000 x'], []),
        (["python", "-u", "batch.py"], []),
        (["sort", "--key", "2", "--token", "$HF_TOKEN", "--secret", "short"], []),
        (["sh", "-c", 'curl -H "Authorization: Bearer $OPENAI_API_KEY" "$OPENAI_BASE_URL/models"'], []),
        (["python", "batch.py", "--sort-key", "created_at", "--max-tokens", "1024"], []),
    ],
)
def test_secrets_of_a_command_should_be_found_and_its_options_not(command: list[str], places: list[int]) -> None:
    assert Redactor().secrets(command) == places


def test_a_secret_that_contains_another_should_be_hidden_whole() -> None:
    assert Redactor(["abcdefgh", "abcdefgh-and-more"]).text("abcdefgh-and-more") == HIDDEN


@pytest.mark.usefixtures("own_factory")
def test_log_records_should_be_redacted_with_their_arguments_and_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    redact_all_logging(Redactor(["planted-secret-one"]))
    redact_all_logging(Redactor(["planted-secret-one"]))
    try:
        int("planted-secret-one in an error")
    except ValueError:
        logging.getLogger("somebody").exception("with %s and %d", "planted-secret-one", 7)
    assert "planted-secret-one" not in caplog.text
    assert f"with {HIDDEN} and 7" in caplog.text
    assert f"{HIDDEN} in an error" in caplog.text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["--hf-token", "abc"], ["--hf-token", HIDDEN]),
        (["--api_key=abc"], [f"--api_key={HIDDEN}"]),
        (["-H", "X-Api-Key: abcdefgh1"], ["-H", f"X-Api-Key: {HIDDEN}"]),
        (["OPENAI_API_KEY=sk-1", "run"], [f"OPENAI_API_KEY={HIDDEN}", "run"]),
        (["curl", "https://user:pw@host.example/x"], ["curl", f"https://{HIDDEN}@host.example/x"]),
        (["sk-abcdefghijklmnopqrst"], [HIDDEN]),
        (["--password", "--verbose", "x"], ["--password", "--verbose", "x"]),
        # What only looks like it.
        (["--tokenizer", "org/model"], ["--tokenizer", "org/model"]),
        (["--max-num-batched-tokens", "8192"], ["--max-num-batched-tokens", "8192"]),
        (["--max-num-batched-tokens=8192"], ["--max-num-batched-tokens=8192"]),
        (["python", "the key = to success"], ["python", "the key = to success"]),
        (["mail", "me@host.example"], ["mail", "me@host.example"]),
    ],
)
def test_arguments_should_show_no_credentials(given: list[str], shown: list[str]) -> None:
    assert Redactor().arguments(given) == shown
