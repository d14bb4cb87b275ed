"""Inspect a launch's model before a node is paid for, and at which planned machines can serve it."""

from dataclasses import dataclass

from shared.backends.base import ModelInspector
from shared.domain.catalog import Catalog, NotCataloguedError
from shared.domain.instance import InstanceRecord
from shared.domain.model import ModelFacts
from shared.domain.provider import Availability, ProviderUnavailableError
from shared.lifecycle.observations import Checked
from shared.planning.model_fit import ModelNeed, contradiction, model_need, would_fit


@dataclass(frozen=True)
class ModelCheck:
    inspector: ModelInspector | None
    """None: models are not inspected."""
    catalog: Catalog

    def check(self, record: InstanceRecord, availability: Availability) -> Checked:
        """What follows for an instance whose provider can be used.

        Raises:
            LaunchRefusedError: No node could serve the model.
            ProviderUnavailableError: The model's source does not answer, and the launch does not insist.
        """
        request = record.request
        if self.inspector is None or record.mode != "real" or not availability.enabled or availability.wait_seconds > 0:
            return Checked(availability)
        try:
            facts = self.inspector.inspect(request)
        except ProviderUnavailableError as error:
            if not request.force:
                raise
            return Checked(availability, note=f"Not inspected, as `force` asks: {error}.")
        unfit, advice = self._unfit(record, facts)
        if request.force and unfit:
            return Checked(availability, facts, note=f"Launched by `force` though {next(iter(unfit.values()))}.")
        return Checked(availability, facts, unfit, advice)

    def _unfit(self, record: InstanceRecord, facts: ModelFacts) -> tuple[dict[str, str], str]:
        """Why offers cannot serve the model, by their key, and what to do."""
        request = record.request
        wrong = contradiction(facts, request.vllm_args)
        if wrong is not None:
            why, advice = wrong
            return {offer.key: why for offer in record.offers}, f"{advice} `force` launches it anyway."
        need = model_need(facts, request.vllm_args)
        if need is None:
            return {}, ""
        unfit = {offer.key: why for offer in record.offers if (why := need.against(offer, request.disk_size))}
        return unfit, self._advice(record, facts, need) if unfit else ""

    def _advice(self, record: InstanceRecord, facts: ModelFacts, need: ModelNeed) -> str:
        request = record.request
        if all(need.against(offer, None) is None for offer in record.offers):
            return f"Set disk_size to {need.disk_gib} or more, or leave it out; `force` launches it anyway."
        try:
            machine = would_fit(facts, request.vllm_args, self.catalog.listing(request.provider).offers)
        except NotCataloguedError:
            machine = None
        fits = f"It fits {machine}." if machine else "Choose a smaller or quantized model."
        return f"It has {need.basis}. {fits} `force` launches it anyway."
