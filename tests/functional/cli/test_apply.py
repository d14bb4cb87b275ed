"""`gpulaunch apply`: plan, question, changes over what was shown, and the file that comes back."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gpulaunch.cli.exits import Exit
from gpulaunch.client.errors import ConflictError
from gpulaunch.client.synchronous import GpuLaunch
from gpulaunch.models.problems import Problem
from tests.functional.cli.conftest import ADDRESS, Terminal, WorldTransport
from tests.functional.test_endpoints import CHAT, PATH, create, show
from tests.functional.world import READER, SEED, World

LABELLED = SEED | {"labels": {"team": "search"}}
CHANGES = ("POST", "PUT", "PATCH", "DELETE")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "endpoints.yaml", {"name": "chat", "replicas": 2, "launch": LABELLED})


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpulaunch.cli.commands.apply.interactive", lambda: True)


def write(path: Path, *endpoints: Any) -> Path:
    path.write_text(yaml.safe_dump({"endpoints": list(endpoints)}), "utf-8")
    return path


def names(world: World) -> dict[str, str]:
    return {one["name"]: one["status"] for one in world.call("GET", PATH).json["endpoints"]}


def damage(world: World, name: str) -> None:
    """Let a later version have written an endpoint's record."""
    for key, (etag, row) in world.endpoints.rows.items():
        if f'"name":"{name}"' in row["doc"]:
            later = row["doc"].replace('"schema_version":1', '"schema_version":2')
            world.endpoints.rows[key] = (etag, row | {"doc": later})


def changing(transport: WorldTransport) -> list[str]:
    """The changes that were sent, plans left out."""
    sent = [f"{one.method} {one.url.path}" for one in transport.sent if one.method in CHANGES]
    return [one for one in sent if one != "POST /api/plans"]


def test_a_file_should_be_applied_once_and_then_be_what_is_there(
    gpulaunch: Terminal, world: World, file: Path, transport: WorldTransport
) -> None:
    first = gpulaunch("apply", "-f", str(file))
    assert (first.exit_code, first.stderr) == (Exit.OK, "")
    assert "+ chat  create" in first.stdout
    assert "    launch.labels.team: search" in first.stdout
    assert "    2 replicas on the first offer: $1.60 per hour." in first.stdout
    assert first.stdout.endswith("chat  starting  0 of 2 ready  generation 1\n")
    before = show(world)
    again = gpulaunch("apply", "-f", str(file))
    assert (again.exit_code, again.stdout, again.stderr) == (Exit.OK, "= chat  unchanged\n", "Nothing to change.\n")
    assert show(world) == before
    assert changing(transport) == ["POST /api/endpoints"]


def test_what_differs_should_be_shown_and_changed(gpulaunch: Terminal, world: World, file: Path) -> None:
    create(world, launch=SEED | {"use_spot": False}, replicas=1)
    result = gpulaunch("apply", "-f", str(file))
    assert result.stdout.splitlines()[:7] == [
        "~ chat  change",
        "    launch.use_spot: false → true",
        "    launch.labels.team: null → search",
        "    replicas: 1 → 2",
        "    2 replicas on the first offer: $1.60 per hour.",
        "    Replicas are replaced one after another.",
        "chat  starting  0 of 2 ready  generation 2",
    ]
    assert (show(world)["replicas"], show(world)["launch"]["labels"]) == (2, {"team": "search"})


def test_an_endpoint_that_is_paused_should_cost_nothing_until_it_is_resumed(
    gpulaunch: Terminal, world: World, file: Path
) -> None:
    create(world, launch=LABELLED)
    world.call("POST", f"{CHAT}/pause")
    assert "Nothing to change." in gpulaunch("apply", "-f", str(file)).stderr
    write(file, {"name": "chat", "replicas": 3, "launch": LABELLED})
    assert "$2.40 per hour, once it is resumed." in gpulaunch("apply", "-f", str(file)).stdout
    assert (show(world)["paused"], show(world)["replicas"]) == (True, 3)


def test_a_change_that_starts_nothing_should_not_name_a_price(gpulaunch: Terminal, world: World, file: Path) -> None:
    create(world, launch=LABELLED, drain_seconds=60)
    result = gpulaunch("apply", "-f", str(file))
    assert "drain_seconds: 60 → 600" in result.stdout
    assert "per hour" not in result.stdout


def test_a_dry_run_should_change_nothing(
    gpulaunch: Terminal, world: World, file: Path, transport: WorldTransport
) -> None:
    result = gpulaunch("apply", "-f", str(file), "--dry-run", "--prune", "team=search")
    assert (result.exit_code, result.stderr) == (Exit.OK, "Nothing was changed.\n")
    assert "+ chat  create" in result.stdout
    assert names(world) == {}
    [planned] = gpulaunch.json("apply", "-f", str(file), "--dry-run")
    assert (planned["name"], planned["action"], planned["applied"]) == ("chat", "create", False)
    assert {"field": "replicas", "before": None, "after": 2} in planned["fields"]
    assert changing(transport) == []


def test_only_endpoints_with_the_label_should_be_pruned(gpulaunch: Terminal, world: World, file: Path) -> None:
    create(world, name="old", launch=LABELLED)
    create(world, name="theirs", launch=SEED | {"labels": {"team": "ads"}})
    create(world, name="bare")
    assert "old" not in gpulaunch("apply", "-f", str(file)).stdout
    refused = gpulaunch("apply", "-f", str(file), "--prune", "team=search")
    assert (refused.exit_code, "use --yes" in refused.stderr) == (Exit.USAGE, True)
    assert names(world)["old"] == "starting"
    result = gpulaunch("apply", "-f", str(file), "--prune", "team=search", "--yes")
    assert "- old  delete" in result.stdout
    assert names(world) == {"chat": "starting", "old": "deleting", "theirs": "starting", "bare": "starting"}
    again = gpulaunch("apply", "-f", str(file), "--prune", "team=search")
    assert "Nothing to change." in again.stderr


def test_a_file_that_would_not_prune_its_own_endpoints_should_be_refused(
    gpulaunch: Terminal, world: World, file: Path
) -> None:
    write(file, {"name": "chat", "launch": LABELLED}, {"name": "embed", "launch": SEED})
    result = gpulaunch("apply", "-f", str(file), "--prune", "team=search", "--yes")
    assert result.exit_code == Exit.USAGE
    assert "endpoints.1.launch.labels.team: Must be `search`" in result.stderr
    assert names(world) == {}
    assert gpulaunch("apply", "-f", str(file), "--prune", "team").exit_code == Exit.USAGE


@pytest.mark.usefixtures("on_terminal")
@pytest.mark.parametrize(("typed", "code"), [("n\n", Exit.ERROR), ("\n", Exit.ERROR), ("", Exit.INTERRUPTED)])
def test_what_is_not_agreed_to_should_not_be_done(
    gpulaunch: Terminal, world: World, file: Path, typed: str, code: Exit
) -> None:
    create(world, name="old", launch=LABELLED)
    result = gpulaunch("apply", "-f", str(file), "--prune", "team=search", stdin=typed)
    assert (result.exit_code, "Apply? 1 to create, 1 to delete. [y/N]" in result.stderr) == (code, True)
    assert names(world) == {"old": "starting"}


@pytest.mark.usefixtures("on_terminal")
def test_what_is_agreed_to_should_be_done(gpulaunch: Terminal, world: World, file: Path) -> None:
    create(world, name="old", launch=LABELLED)
    result = gpulaunch("apply", "-f", str(file), "--prune", "team=search", stdin="y\n")
    assert result.exit_code == Exit.OK
    assert names(world) == {"chat": "starting", "old": "deleting"}


@pytest.mark.usefixtures("on_terminal")
@pytest.mark.parametrize("flag", ["--yes", "--json"])
def test_no_question_should_be_asked_that_was_answered_or_is_a_programs(
    gpulaunch: Terminal, file: Path, flag: str
) -> None:
    result = gpulaunch("apply", "-f", str(file), flag)
    assert (result.exit_code, "?" in result.stderr) == (Exit.OK, False)


@pytest.mark.usefixtures("on_terminal")
def test_what_others_change_before_the_answer_should_be_kept_and_the_rest_be_done(
    gpulaunch: Terminal, world: World, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("chat", "old"):
        create(world, name=name, launch=LABELLED, replicas=1)
    write(file, *({"name": name, "replicas": 2, "launch": LABELLED} for name in ("chat", "taken", "embed")))

    def confirm(*_: object, **__: object) -> bool:
        for name in ("chat", "old"):
            assert world.call("PATCH", f"{PATH}/{name}", {"replicas": 4}).status == 200
        create(world, name="taken", launch=SEED)
        return True

    monkeypatch.setattr("typer.confirm", confirm)
    result = gpulaunch("apply", "-f", str(file), "--prune", "team=search")
    assert result.exit_code == Exit.CONFLICT
    assert result.stderr.count("has been changed since it was shown") == 2
    assert "taken was not created." in result.stderr
    assert (show(world)["replicas"], names(world)["old"]) == (4, "starting")
    assert world.call("GET", f"{PATH}/taken").json["launch"]["labels"] == {}
    assert names(world)["embed"] == "starting"


def test_what_was_refused_should_be_listed_for_programs(
    gpulaunch: Terminal, world: World, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file, *({"name": name, "launch": SEED} for name in ("chat", "embed")))

    def refuse(self: GpuLaunch, name: str, *_: Any) -> None:
        raise ConflictError(Problem(title="Conflict", status=409, detail="Busy.", code="busy"), None)

    monkeypatch.setattr(GpuLaunch, "create_endpoint", refuse)
    result = gpulaunch("apply", "-f", str(file), "--json")
    assert result.exit_code == Exit.CONFLICT
    assert [(one["name"], one["applied"]) for one in json.loads(result.stdout)] == [("chat", False), ("embed", False)]
    assert [json.loads(line)["error"]["code"] for line in result.stderr.splitlines()] == ["busy", "busy"]


def test_an_app_that_stops_answering_should_end_it_with_what_was_done(
    gpulaunch: Terminal, world: World, file: Path, transport: WorldTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(world, launch=SEED)
    write(file, *({"name": name, "replicas": 3, "launch": SEED} for name in ("chat", "embed", "rank")))
    answered = transport.handle_request

    def silent(request: httpx.Request) -> httpx.Response:
        transport.lost = int(request.method == "POST" and request.url.path == PATH)
        return answered(request)

    monkeypatch.setattr(transport, "handle_request", silent)
    result = gpulaunch("apply", "-f", str(file), "--json")
    assert result.exit_code == Exit.UNAVAILABLE
    applied = {one["name"]: one["applied"] for one in json.loads(result.stdout)}
    assert applied == {"chat": True, "embed": False, "rank": False}
    assert "rank" not in names(world)


def test_mistakes_should_name_file_line_and_field(gpulaunch: Terminal, world: World, file: Path) -> None:
    file.write_text(
        "endpoints:\n- name: chat\n  launch:\n    model_name: org/model\n    gpu: A10\n    region: eastuss\n"
        "- name: embed\n  launch:\n    model_name: org/model\n    gpu: A11\n"
    )
    result = gpulaunch("apply", "-f", str(file), "--yes")
    assert result.exit_code == Exit.USAGE
    one, other = result.stderr.splitlines()
    assert one.startswith(f"{file}:6: endpoints.0.launch.region: ")
    assert "Nearest: eastus" in one
    assert other.startswith(f"{file}:10: endpoints.1.launch.gpu: ")
    assert names(world) == {}
    document = json.loads(gpulaunch("apply", "-f", str(file), "--json").stderr)["error"]
    assert (document["code"], document["file"], document["exit_code"]) == ("invalid_file", str(file), 2)
    assert [(one["line"], one["field"]) for one in document["errors"]] == [
        (6, "endpoints.0.launch.region"),
        (10, "endpoints.1.launch.gpu"),
    ]


def test_a_file_that_cannot_be_read_should_be_named(gpulaunch: Terminal, tmp_path: Path) -> None:
    result = gpulaunch("apply", "-f", str(tmp_path / "none.yaml"))
    assert result.exit_code == Exit.USAGE
    assert result.stderr == f"{tmp_path / 'none.yaml'}: Cannot read it: No such file or directory.\n"
    (tmp_path / "latin.yaml").write_bytes("endpoints: ä".encode("latin-1"))
    assert "Not a text in UTF-8." in gpulaunch("apply", "-f", str(tmp_path / "latin.yaml")).stderr
    (tmp_path / "large.yaml").write_bytes(b"#" * (1024 * 1024 + 1))
    assert "Larger than 1048576 bytes." in gpulaunch("apply", "-f", str(tmp_path / "large.yaml")).stderr


def test_a_file_should_be_read_from_standard_input(gpulaunch: Terminal, world: World, file: Path) -> None:
    result = gpulaunch("apply", "-f", "-", stdin=file.read_text("utf-8"))
    assert result.exit_code == Exit.OK
    assert names(world) == {"chat": "starting"}
    assert gpulaunch("apply", "-f", "-", stdin="endpoints: 5").stderr == (
        "standard input:1: endpoints: Must be a list.\n"
    )


def test_an_endpoint_that_is_being_deleted_should_be_waited_for(gpulaunch: Terminal, world: World, file: Path) -> None:
    create(world)
    world.run(120)
    world.call("DELETE", CHAT)
    result = gpulaunch("apply", "-f", str(file))
    assert (result.exit_code, "chat is being deleted." in result.stderr) == (Exit.CONFLICT, True)
    world.run(300)
    assert gpulaunch("apply", "-f", str(file)).exit_code == Exit.OK


def test_endpoints_whose_records_cannot_be_read_should_be_left_alone(
    gpulaunch: Terminal, world: World, file: Path
) -> None:
    create(world, name="other")
    damage(world, "other")
    assert "other cannot be read" in gpulaunch("apply", "-f", str(file)).stderr
    damage(world, "chat")
    result = gpulaunch("apply", "-f", str(file))
    assert result.exit_code == Exit.USAGE
    assert "endpoints.0.name: The endpoint's record cannot be read" in result.stderr


def test_a_reader_should_see_the_plan_and_be_refused(gpulaunch: Terminal, world: World, file: Path) -> None:
    gpulaunch.environment["GPULAUNCH_TOKEN"] = READER
    assert gpulaunch("apply", "-f", str(file), "--dry-run").exit_code == Exit.OK
    assert gpulaunch("apply", "-f", str(file)).exit_code == Exit.REFUSED
    assert names(world) == {}


def test_the_file_of_what_is_there_should_change_nothing(gpulaunch: Terminal, world: World, tmp_path: Path) -> None:
    assert gpulaunch("endpoints", "--yaml").stderr == "No endpoints.\n"
    create(world, launch=LABELLED | {"region": ["eastus", "westus2"]}, drain_seconds=9)
    create(world, name="embed", launch=SEED | {"chat_template": "a\n  b: 1\n"})
    written = gpulaunch("endpoints", "--yaml").stdout
    address, _, rest = written.partition("\n")
    assert address == f"# yaml-language-server: $schema={ADDRESS}/api/schemas/endpoints.json"
    assert [one["name"] for one in yaml.safe_load(rest)["endpoints"]] == ["chat", "embed"]
    file = tmp_path / "endpoints.yaml"
    file.write_text(written)
    assert "Nothing to change." in gpulaunch("apply", "-f", str(file)).stderr
    alone = yaml.safe_load(gpulaunch("endpoints", "chat", "--yaml").stdout)
    assert [one["name"] for one in alone["endpoints"]] == ["chat"]
    assert gpulaunch("endpoints", "--yaml", "--json").exit_code == Exit.USAGE


def test_the_schema_should_be_served_without_a_token(world: World) -> None:
    answer = world.call("GET", "/api/schemas/endpoints.json", token=None)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json["properties"]["endpoints"]["minItems"] == 1
