"""Files of endpoints: what is read, where each mistake stands, and what is written."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gpulaunch.cli.endpoint_file import read_endpoints, text_of
from gpulaunch.cli.exits import FileError
from gpulaunch.models.endpoints import EndpointRequest
from gpulaunch.models.problems import FieldError
from tests.unit.cli.endpoint_views import view_of

TWO = """\
endpoints:
  - name: chat-prod
    replicas: 2
    launch:
      model_name: meta-llama/Llama-3.1-8B-Instruct
      gpu: A10
      region: [eastus, westus2]
      labels: {team: search, country: no}
  - name: embed
    launch:
      model_name: BAAI/bge-m3
      gpu: A10
"""


def mistakes(text: str) -> list[tuple[int | None, str, str]]:
    with pytest.raises(FileError) as raised:
        read_endpoints("e.yaml", text)
    return [(one.line, one.field, one.message) for one in raised.value.mistakes]


def changed(before: str, after: str) -> str:
    assert before in TWO
    return TWO.replace(before, after, 1)


def test_a_file_should_be_read_as_the_api_takes_it() -> None:
    chat, embed = read_endpoints("e.yaml", TWO).endpoints
    assert (chat.name, chat.replicas, chat.launch.region) == ("chat-prod", 2, ["eastus", "westus2"])
    assert (embed.name, embed.most_replicas, embed.launch.gpu) == ("embed", 1, "A10")


def test_json_should_be_read_as_well() -> None:
    launch = {"model_name": "a/b", "gpu": "A10", "labels": {"team": "x"}, "chat_template": "\U0001f600 \\ud83d"}
    text = json.dumps({"endpoints": [{"name": "chat", "launch": launch}]}, indent="\t")
    assert "\\ud83d\\ude00" in text
    [one] = read_endpoints("e.json", text).endpoints
    assert one.launch.chat_template == launch["chat_template"]
    assert mistakes(text.replace('"A10"', "10")) == [(7, "endpoints.0.launch.gpu", "Must be a text.")]


@pytest.mark.parametrize("text", ["no", "on", "yes", "off", "2026-01-01", "1:30", "010", "0x1f", "1_000", "~a"])
def test_words_that_yaml_1_1_took_for_something_else_should_be_texts(text: str) -> None:
    wanted = changed("country: no", f"country: {text}")
    labels = yaml.safe_load(wanted)["endpoints"][0]["launch"]["labels"]
    assert labels["country"] != text or text == "~a"
    if "~" in text:
        assert [one[1] for one in mistakes(wanted)] == ["endpoints.0.launch.labels.country"]
    else:
        assert read_endpoints("e.yaml", wanted).endpoints[0].launch.labels["country"] == text


@pytest.mark.parametrize(
    ("before", "after", "line", "field", "message"),
    [
        ("replicas: 2", "replicas: two", 3, "endpoints.0.replicas", "Must be a whole number."),
        ("replicas: 2", "replicas: 02", 3, "endpoints.0.replicas", "Must be a whole number."),
        ("replicas: 2", "replicas: 2.5", 3, "endpoints.0.replicas", "Must be a whole number."),
        ("replicas: 2", "replicas: true", 3, "endpoints.0.replicas", "Must be a whole number."),
        ("replicas: 2", "replicas: 101", 3, "endpoints.0.replicas", "Must be at most 100."),
        ("replicas: 2", "replica: 2", 3, "endpoints.0.replica", "There is no such field."),
        ("gpu: A10", "gpuu: A10", 6, "endpoints.0.launch.gpuu", "There is no such field."),
        ("country: no", "country: 5", 8, "endpoints.0.launch.labels.country", "Must be a text."),
        ("gpu: A10", "idle_minutes: 5\n      gpu: A10", 4, "endpoints.0.launch", "Remove `launch.idle_minutes`"),
        ("  gpu: A10\n      region", "  region", 4, "endpoints.0.launch", "Set either `gpu` or `instance_type`."),
        ("  - name: embed\n    l", "  - l", 9, "endpoints.1.name", "Is required."),
        ("name: embed", "name: chat-prod", 9, "endpoints.1.name", "Another endpoint of this file has that name."),
        ("name: embed", "name: Embed", 9, "endpoints.1.name", "At most 40 lowercase letters"),
    ],
)
def test_each_mistake_should_be_found_with_its_line_and_field(
    before: str, after: str, line: int, field: str, message: str
) -> None:
    found = mistakes(changed(before, after))
    assert (line, field) in [(one[0], one[1]) for one in found], found
    assert any(one[2].startswith(message) for one in found), found


def test_mistakes_should_be_listed_as_compilers_do_with_what_is_alike() -> None:
    with pytest.raises(FileError) as raised:
        read_endpoints("e.yaml", changed("region:", "regoin:").replace("name: embed", "name: 5"))
    assert str(raised.value).splitlines() == [
        "e.yaml:7: endpoints.0.launch.regoin: There is no such field. Nearest: region.",
        "e.yaml:9: endpoints.1.name: Must be a text.",
    ]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", None, "The file is empty."),
        ("# nothing\n", None, "The file is empty."),
        ("endpoints: []\n", 1, "Must not be empty."),
        ("- name: chat\n", 1, "Must be an object."),
        ("endpoints:\n  - name: a\n   b: c\n", 3, "Not valid YAML: "),
        ("endpoints: [\n", 2, "Not valid YAML: "),
        ("endpoints: []\n---\nendpoints: []\n", 2, "Not valid YAML: "),
        ("a: 1\nb: 2\na: 3\n", 3, "`a` is there twice."),
        ('{"a": 1,\n "a": 2}', 2, "`a` is there twice."),
        ("endpoints: !!python/object/apply:os.getcwd []\n", 1, "tag:yaml.org,2002:python/object/apply:os.getcwd is"),
        ("endpoints:\n  - name: !!timestamp 2026-01-01\n", 2, "tag:yaml.org,2002:timestamp is not a type"),
        ("endpoints:\n  - replicas: !!int x\n", 2, "'x' is not a valid int."),
        ("endpoints:\n  - force: !!bool x\n", 2, "'x' is not a valid bool."),
        ("endpoints: &a\n  - *a\n", 1, "Refers to itself"),
        ("a:\n  <<: 5\n", 2, "`<<` takes a mapping"),
        ("? [a]\n: 1\n", 1, "A key must be a text."),
        ("[" * 60 + "]" * 60, 1, "Refers to itself, is too deeply nested"),
        ("[" * 3000, None, "Not valid YAML: too deeply nested."),
        ("a: \x00", None, "Not valid YAML: "),
    ],
)
def test_what_is_no_file_of_endpoints_should_be_refused(text: str, line: int | None, message: str) -> None:
    found = mistakes(text)
    assert any(one[0] == line and one[2].startswith(message) for one in found), found


def test_a_small_file_with_billions_of_values_should_be_refused() -> None:
    levels = "\n".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]" for n in range(9))
    [one] = mistakes(f"a: &a [x]\n{levels}\n")
    assert "too many values" in one[2]


def test_what_endpoints_have_in_common_should_be_written_once() -> None:
    text = TWO.replace("launch:\n", "launch: &common\n", 1)
    text = text.replace("    launch:\n      model_name: BAAI", "    launch:\n      <<: *common\n      model_name: BAAI")
    chat, embed = read_endpoints("e.yaml", text).endpoints
    assert embed.launch.region == chat.launch.region
    assert embed.launch.model_name == "BAAI/bge-m3"
    twice = text.replace("model_name: BAAI/bge-m3", "model_name: 5")
    assert [one[:2] for one in mistakes(twice)] == [(12, "endpoints.1.launch.model_name")]


def test_mistakes_that_the_app_finds_should_have_their_lines() -> None:
    read = read_endpoints("e.yaml", TWO)
    found = read.within(
        "embed", [FieldError(field="gpu", message="No."), FieldError(field="body", message="No.")], "launch"
    )
    assert [(one.line, one.field) for one in found.mistakes] == [
        (10, "endpoints.1.launch"),
        (12, "endpoints.1.launch.gpu"),
    ]


def written(launch: Mapping[str, Any], **fields: Any) -> str:
    asked = EndpointRequest.model_validate({"name": "chat", "launch": launch, **fields})
    return text_of([view_of(asked)], "http://app.test/schema.json")


def test_a_written_file_should_begin_with_its_schema_and_leave_defaults_out() -> None:
    assert written({"model_name": "m", "gpu": "A10"}) == (
        "# yaml-language-server: $schema=http://app.test/schema.json\n"
        "endpoints:\n- name: chat\n  launch:\n    model_name: m\n    gpu: A10\n"
    )


def test_a_template_of_several_lines_should_stay_readable() -> None:
    template = "{% for one in messages %}\n  {{ one }}\n{% endfor %}\n"
    text = written({"model_name": "m", "gpu": "A10", "chat_template": template})
    assert "    chat_template: |\n      {% for one in messages %}\n        {{ one }}\n" in text
    assert read_endpoints("e.yaml", text).endpoints[0].launch.chat_template == template


WORDS = st.sampled_from(
    ["no", "1e3", "1.", ".5", "~", "null", "<<", "=", "010", "2026-01-01", "true", "'", "a: b", "#"]
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40) | WORDS
KEYS = st.from_regex(r"\A[a-z]([a-z./]{0,3}[a-z])?\Z")
LABELS = st.dictionaries(KEYS, st.sampled_from(["no", "1e3", "010", "a b"]), max_size=16)
LAUNCHES = st.fixed_dictionaries(
    {"model_name": st.just("org/model"), "gpu": st.just("A10")},
    optional={
        "chat_template": TEXTS,
        "labels": LABELS,
        "max_hourly_cost": st.floats(1e-9, 10_000),
        "region": st.sampled_from(["no", "1e5", ["a", "010"]]),
        "use_spot": st.booleans(),
    },
)


@settings(deadline=None)
@given(LAUNCHES, st.integers(0, 100), st.integers(0, 3600))
def test_what_is_written_should_be_read_again(launch: Mapping[str, Any], replicas: int, drain: int) -> None:
    [read] = read_endpoints("e.yaml", written(launch, replicas=replicas, drain_seconds=drain)).endpoints
    number = {} if replicas == 1 else {"replicas": replicas}
    asked = {"name": "chat", "launch": launch, "drain_seconds": drain, **number}
    assert read == EndpointRequest.model_validate(asked)
