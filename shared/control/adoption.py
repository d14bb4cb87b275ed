"""Adopt nodes of this deployment whose records were lost."""

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass

from gpulaunch.models.garbage import AdoptedNode, AdoptionAnswer, RefusedNode
from gpulaunch.models.offers import Offer
from shared.agent.task import server_port
from shared.billing.admission import Admission
from shared.clock import Clock
from shared.control.clusters import ClusterListing
from shared.control.garbage_report import GarbageReports
from shared.control.records import send_step
from shared.domain.catalog import ANY_REGION, Catalog, NotCataloguedError
from shared.domain.instance import Event, InstanceRecord, attempt_of, instance_of
from shared.domain.provider import Cluster, NodeState
from shared.errors import AlreadyExistsError, StoreUnavailableError
from shared.lifecycle.adoption import adopted
from shared.lifecycle.garbage import UNRECORDED
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import NextStep
from shared.settings import Settings
from shared.storage.base import UNRECORDED_CALLER, InstanceStore, Queues, UnreadableRecordError

log = logging.getLogger("gpulaunch.garbage")

_LONGEST_MINUTES = 43_200
"""What a launch may ask for at most."""
_GPU = re.compile(r"\bgpus=([A-Za-z][A-Za-z0-9-]*):([0-9]+)")


class _RefusedError(Exception):
    """Why a node is not adopted."""


@dataclass(frozen=True)
class Adopter:
    store: InstanceStore
    listing: ClusterListing
    reports: GarbageReports
    catalog: Catalog
    admission: Admission
    queues: Queues
    clock: Clock
    settings: Settings
    deployment: str
    timeouts: Timeouts

    def adopt(self, names: Collection[str], model_name: str, lifetime_minutes: int | None) -> AdoptionAnswer:
        """Make a record for each node that carries this identity and has none, in the state that the node reports.

        What is listed now decides, not what was listed when the nodes were shown. Repeating it is harmless.

        Raises:
            StoreUnavailableError: Storage did not answer; what was adopted by then is.
        """
        running = self.listing.read().clusters
        waiting = {one.cluster_name for one in self.reports.read().report.waiting if one.why == UNRECORDED}
        heard = {marker.key for marker in self.store.markers(UNRECORDED_CALLER)}
        done: list[AdoptedNode] = []
        refused: list[RefusedNode] = []
        for name in dict.fromkeys(names):
            try:
                if not self._is_adopted(name):
                    cluster = self._adoptable(running[name][1] if name in running else None, name in waiting)
                    self._adopt(cluster, name in heard, model_name, lifetime_minutes)
                done.append(AdoptedNode(cluster_name=name, instance_id=instance_of(name)))
            except _RefusedError as error:
                refused.append(RefusedNode(cluster_name=name, why=str(error)))
        return AdoptionAnswer(adopted=done, refused=refused)

    def _is_adopted(self, name: str) -> bool:
        try:
            found = self.store.load(instance_of(name))
        except UnreadableRecordError as error:
            raise _RefusedError("Its record exists and cannot be read.") from error
        if found is None:
            return False
        attempt = found.record.attempt
        if found.record.ended or attempt is None or attempt.cluster_name != name:
            raise _RefusedError("Its instance has a record, whose steps find the node or delete it.")
        return True

    def _adoptable(self, cluster: Cluster | None, waits: bool) -> Cluster:
        if cluster is None or cluster.state is NodeState.ABSENT:
            raise _RefusedError("Nothing of that name is running.")
        if cluster.deployment != self.deployment:
            raise _RefusedError("It does not carry this deployment's identity.")
        if not waits:
            raise _RefusedError("It does not wait for a decision; see `gpulaunch gc`.")
        return cluster

    def _adopt(self, cluster: Cluster, heard: bool, model_name: str, lifetime_minutes: int | None) -> None:
        name = cluster.cluster_name
        record, events = self._record(cluster, heard, model_name, lifetime_minutes)
        try:
            self.admission.take(record, events)
        except AlreadyExistsError:
            return  # somebody else has just adopted it
        log.warning("%s: %s", record.instance_id, events[0].message, extra={"event": "adopted"})
        self.store.drop_marker(UNRECORDED_CALLER, name)
        try:
            send_step(self.queues, record, NextStep("advance", 0.0))
        except StoreUnavailableError:
            log.warning("%s is adopted, but its first message was not sent; the sweep sends it", record.instance_id)

    def as_adopted(self, cluster: Cluster) -> InstanceRecord | None:
        """The record that a node of ours would get, not stored; None: it can't be adopted."""
        try:
            record, _ = self._record(cluster, heard=False, model_name="", lifetime_minutes=None)
        except _RefusedError as error:
            log.warning("%s cannot be adopted: %s", cluster.cluster_name, error)
            return None
        return record

    def _record(
        self, cluster: Cluster, heard: bool, model_name: str, lifetime_minutes: int | None
    ) -> tuple[InstanceRecord, tuple[Event, ...]]:
        if cluster.created_at is None:
            raise _RefusedError("It is not known since when it costs money.")
        name, offer, now = cluster.cluster_name, self._offer(cluster), self.clock.now()
        most = self.admission.rules.limits.lifetime_minutes or _LONGEST_MINUTES
        return adopted(
            instance_of(name),
            attempt_of(name),
            offer,
            model_name=model_name,
            created_at=cluster.created_at,
            now=now,
            lifetime_minutes=min(most, lifetime_minutes or most),
            heard=heard,
            # A node that is asked has been heard too, and does not call.
            calls_us=heard and self.settings.public_url is not None,
            port=server_port(offer.provider, self.settings),
            timeouts=self.timeouts,
        )

    def _offer(self, cluster: Cluster) -> Offer:
        """What the node is and costs, from the listing and the catalog; a node's own report counts for neither."""
        words = {word.strip().casefold() for word in re.split(r"[(),]", cluster.machine)}
        gpu = _GPU.search(cluster.machine)
        try:
            offers = next(
                (self.catalog.listing(name).offers for name in self.catalog.clouds if name == cluster.provider), ()
            )
        except NotCataloguedError as error:
            raise _RefusedError(str(error)) from error
        for offer in offers:
            if offer.region == ANY_REGION and gpu is not None and offer.gpu.casefold() == gpu[1].casefold():
                return offer.model_copy(update={"region": cluster.region or ANY_REGION, "gpu_count": int(gpu[2])})
            same = offer.region.casefold() == (cluster.region or "").casefold() and offer.use_spot is cluster.use_spot
            if same and offer.instance_type is not None and offer.instance_type.casefold() in words:
                return offer
        where = f"{cluster.provider or 'an unknown provider'}/{cluster.region or 'an unknown region'}"
        raise _RefusedError(f"The catalog does not know its machine ({cluster.machine or 'not listed'}) on {where}.")
