"""Planted bugs that delete nodes in use: the days on a shared cloud have to notice each of them."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from shared.control.sweep.garbage import GarbageCollection
from shared.domain.provider import Cluster
from tests.functional import test_shared_cloud as days
from tests.functional.shared_cloud import SharedCloud
from tests.functional.test_shared_cloud import cloud
from tests.simulation.mutations import always
from tests.simulation.mutations_of_kinds import MUTATIONS

__all__ = ["cloud"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
Plant = Callable[[pytest.MonkeyPatch], None]


def identities_are_ignored(patch: pytest.MonkeyPatch) -> None:
    """A node of another deployment is garbage, however many there are: the limits would hold back most of them."""
    MUTATIONS["garbage_of_another_deployment_is_taken"](patch)
    patch.setattr("shared.control.sweep.garbage.why_wait", always(None))


def lost_nodes_are_garbage(patch: pytest.MonkeyPatch) -> None:
    """A node without a record counts as one that its record has given up."""

    def everything(_: object, clusters: Iterable[Cluster], __: Any) -> tuple[set[str], set[str]]:
        return {one.cluster_name for one in clusters}, set()

    patch.setattr(GarbageCollection, "_looked_up", everything)
    patch.setattr("shared.control.sweep.garbage.why_wait", always(None))


PLANTED: list[tuple[Plant, str]] = [
    (identities_are_ignored, "as it is"),
    (MUTATIONS["garbage_waits_for_nobody"], "restored"),
    (MUTATIONS["garbage_waits_for_nobody"], "emptied"),
    (lost_nodes_are_garbage, "restored"),
    (lost_nodes_are_garbage, "emptied"),
]


@pytest.mark.parametrize(("plant", "table"), PLANTED)
def test_a_bug_that_deletes_nodes_in_use_should_be_noticed(
    cloud: SharedCloud, monkeypatch: pytest.MonkeyPatch, plant: Plant, table: str
) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError) as noticed:
        if table == "as it is":
            days.test_two_deployments_should_end_their_own_nodes_alone(cloud, 3, 5)
        else:
            days.test_nodes_that_a_table_has_lost_should_run_until_they_are_confirmed(cloud, table, 5, 5)
    assert any(word in str(noticed.traceback[-1].statement) for word in ("deletions", "early", "mine.own()"))
