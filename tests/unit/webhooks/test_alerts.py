"""What is told, in which form, and that it can be proved to come from us."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from gpulaunch.models.instances import EventType, Phase, Reason
from shared.adapters import secrets_of
from shared.domain.instance import Event
from shared.domain.webhook import read_hooks, signing_key
from shared.settings import Settings
from shared.webhooks.alert import Alert, AlertData, alert_of, is_wanted, type_of
from shared.webhooks.delivery import signed_headers
from shared.webhooks.formats import body_of
from tests.twins.clock import START
from tests.twins.factories import make_event, make_record, make_request

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def phase(to: Phase, reason: Reason | None = None) -> Event:
    return make_event(4, type=EventType.PHASE, phase=to, reason=reason, message="a <b> & c")


def settings(**given: str) -> Settings:
    return Settings.model_validate({"GPULAUNCH_MASTER_KEY": "key-of-the-tests-0123456789-abcdef", **given})


def test_the_signature_should_be_that_of_the_specification_s_example() -> None:
    now = datetime.fromtimestamp(1614265330, UTC)
    headers = signed_headers(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", now, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("secret", ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_***"])
def test_other_secrets_should_be_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        signing_key(secret)


@pytest.mark.parametrize(
    ("event", "words", "told"),
    [
        (phase(Phase.READY), {"ready"}, True),
        (phase(Phase.READY), {"failed", "alert"}, False),
        (phase(Phase.INSTALLING), {"phase"}, True),
        (phase(Phase.INSTALLING), {"ready"}, False),
        (phase(Phase.FAILED, Reason.NO_CAPACITY), {"failed"}, True),
        (phase(Phase.TERMINATING, Reason.POISON_MESSAGE), {"poison"}, True),
        (phase(Phase.TERMINATING, Reason.IDLE), {"poison"}, False),
        (make_event(1, type=EventType.ALERT), {"alert"}, True),
        (make_event(1, type=EventType.ALERT), {"phase"}, False),
        (make_event(1, type=EventType.HEALTH), {"phase", "alert", "poison"}, False),
    ],
)
def test_what_was_chosen_should_be_told_and_nothing_else(event: Event, words: set[str], told: bool) -> None:
    assert is_wanted(event, words) is told


def alert() -> Alert:
    event = phase(Phase.FAILED, Reason.NO_CAPACITY)
    kind = type_of(event)
    assert kind is not None
    return alert_of(make_record(request=make_request(name="llama")), event, kind, START)


def test_slack_should_get_text_that_mentions_nobody() -> None:
    body: dict[str, Any] = json.loads(body_of(alert(), "slack"))
    assert body["text"] == "llama failed"
    header, message, facts = (block["text"] for block in body["blocks"])
    assert header["text"] == "llama failed"
    assert "a &lt;b&gt; &amp; c" in message["text"]
    assert "no_capacity" in facts["text"]


@pytest.mark.parametrize("said", ["*now* _now_ ~no~ `x` ```y```", "> a\n• *b*", ":rotating_light: <!channel>", ""])
def test_no_words_of_a_node_should_be_markup_in_slack(said: str) -> None:
    """Nothing but plain text, which Slack shows as it is; a section of it may not be empty."""
    bad = alert()
    assert isinstance(bad.data, AlertData)
    bad = bad.model_copy(update={"data": bad.data.model_copy(update={"message": said})})
    body: dict[str, Any] = json.loads(body_of(bad, "slack"))
    assert body["mrkdwn"] is False
    assert {(block["text"]["type"], block["text"]["emoji"]) for block in body["blocks"]} == {("plain_text", False)}
    assert all(block["text"]["text"] for block in body["blocks"])
    assert "<!channel>" not in json.dumps(body)


def test_teams_should_get_an_adaptive_card() -> None:
    body: dict[str, Any] = json.loads(body_of(alert(), "teams"))
    (attachment,) = body["attachments"]
    assert (body["type"], attachment["contentType"]) == ("message", "application/vnd.microsoft.card.adaptive")
    assert attachment["content"]["type"] == "AdaptiveCard"
    assert {"title": "Reason", "value": "no_capacity"} in attachment["content"]["body"][2]["facts"]


def test_no_words_of_a_node_should_become_a_link_or_markup_in_teams() -> None:
    said = "[sign in](https://evil.example/login) **now** `x` _y_ <at>all</at> no_capacity"
    bad = alert()
    assert isinstance(bad.data, AlertData)
    bad = bad.model_copy(update={"data": bad.data.model_copy(update={"message": said})})
    (attachment,) = json.loads(body_of(bad, "teams"))["attachments"]
    text = attachment["content"]["body"][1]["text"]
    assert text == (r"\[sign in\]\(https://evil.example/login\) \*\*now\*\* \`x\` \_y\_ \<at\>all\</at\> no_capacity")


def test_json_should_be_the_model() -> None:
    assert Alert.model_validate_json(body_of(alert(), "json")) == alert()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://a.example/x", [("json", "a.example")]),
        (
            "slack|https://a.example/x, teams|https://b.example:8443/y?z=1",
            [("slack", "a.example"), ("teams", "b.example")],
        ),
        ('[{"format": "slack", "url": "https://a.example/x"}]', [("slack", "a.example")]),
        ("", []),
    ],
)
def test_receivers_should_be_read(text: str, found: list[tuple[str, str]]) -> None:
    assert [(hook.format, hook.host) for hook in read_hooks(text)] == found


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"GPULAUNCH_WEBHOOK_URLS": "slack|http://a.example/secret-path"}, "https://"),
        ({"GPULAUNCH_WEBHOOK_URLS": "slack|secret-path"}, "https://"),
        ({"GPULAUNCH_WEBHOOK_URLS": "pager|https://a.example/secret-path"}, "format"),
        ({"GPULAUNCH_WEBHOOK_URLS": "slack|https://a[b/secret-path"}, "invalid webhook URL"),
        ({"GPULAUNCH_WEBHOOK_URLS": '[{"url": 1, "secret-path": 2}]'}, "JSON"),
        ({"GPULAUNCH_WEBHOOK_URLS": "json|https://a.example/secret-path"}, "GPULAUNCH_WEBHOOK_SECRET"),
        ({"GPULAUNCH_WEBHOOK_SECRET": "secret-path"}, "whsec_"),
        ({"GPULAUNCH_WEBHOOK_EVENTS": "ready,redy"}, "valid events are"),
    ],
)
def test_wrong_settings_should_be_refused_without_being_shown(given: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**given)
    told = caught.value.errors(include_url=False, include_input=False, include_context=False)
    assert says in told[0]["msg"]
    assert "secret-path" not in str(told)


def test_plain_http_should_be_for_development_only() -> None:
    given = {"GPULAUNCH_WEBHOOK_URLS": "slack|http://localhost:9000/x"}
    assert len(settings(AZURE_FUNCTIONS_ENVIRONMENT="Development", **given).webhooks) == 1


def test_addresses_and_secrets_of_webhooks_should_be_known_to_the_redactor_and_not_be_shown() -> None:
    made = settings(GPULAUNCH_WEBHOOK_URLS="slack|https://a.example/secret-path", GPULAUNCH_WEBHOOK_SECRET=SECRET)
    assert {"https://a.example/secret-path", SECRET} <= set(secrets_of(made))
    assert "secret-path" not in repr(made)
    assert SECRET not in repr(made)
