"""Records that cannot be read, on the pages: shown with the reason, and terminated there."""

import pytest

from shared.storage import rows
from tests.contract.test_unreadable_rows import overwrite, raw
from tests.functional.web.visitor import Visitor, text_of
from tests.functional.world import World


@pytest.fixture
def bad(world: World) -> str:
    """A ready instance whose row was damaged, found by a sweep."""
    instance_id = world.launch()
    world.run(90)
    key = rows.record_key(instance_id, ended=False)
    overwrite(world.store, {**raw(world.store, key), "doc": "{not json"})
    world.run(31)
    return instance_id


def test_the_list_should_show_an_unreadable_record_why_and_since_when(world: World, admin: Visitor, bad: str) -> None:
    page = admin.get("/instances")
    text = text_of(page)
    since = world.store.markers("unreadable")[0].at
    assert page.status == 200
    assert f"{bad} azure ready Invalid JSON" in text
    assert f"{since:%Y-%m-%d %H:%M:%S} UTC Terminate" in text
    assert "No instances are running" not in text
    assert f'href="/instances/{bad}/terminate"' in page.body.decode()


def test_a_readable_neighbour_should_stay_in_the_list(world: World, admin: Visitor, bad: str) -> None:
    other = world.launch(name="healthy")
    text = text_of(admin.get("/instances"))
    assert bad in text
    assert "healthy" in text
    assert admin.get(f"/instances/{other}").status == 200


def test_a_reader_should_see_no_button_to_terminate(reader: Visitor, bad: str) -> None:
    for path in ("/instances", f"/instances/{bad}"):
        page = reader.get(path)
        assert "Invalid JSON" in text_of(page)
        assert f"/instances/{bad}/terminate" not in page.body.decode()
    assert reader.get(f"/instances/{bad}/terminate").status == 403


def test_the_page_should_terminate_an_unreadable_instance_and_say_so(
    world: World, admin: Visitor, bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_yet(_: str) -> bool:
        return False

    page = admin.get(f"/instances/{bad}")
    assert page.status == 200
    assert "update the app; otherwise terminate the instance" in text_of(page)
    mark = admin.part("/instances").headers["ETag"]
    asked = admin.get(f"/instances/{bad}/terminate")
    assert f"Terminate {bad}?" in text_of(asked)
    with monkeypatch.context() as patch:
        patch.setattr(world.simulation.provider, "delete", not_yet)
        answer = admin.send(f"/instances/{bad}/terminate", f"/instances/{bad}/terminate", {})
        assert (answer.status, answer.headers["Location"]) == (303, f"/instances/{bad}")
        assert "Terminating." in text_of(admin.get(f"/instances/{bad}"))
        assert "terminating" in text_of(admin.part("/instances", mark)), "the list must not be answered with 304"
    world.run(120)
    assert world.simulation.provider.clusters() == []
    page = admin.get(f"/instances/{bad}")
    assert "The instance has ended, and its node is deleted." in text_of(page)
    assert f"/instances/{bad}/terminate" not in page.body.decode()
    assert bad not in text_of(admin.get("/instances"))
    assert bad in text_of(admin.get("/instances?state=ended"))
