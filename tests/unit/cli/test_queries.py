"""The query models: what they accept and what they refuse."""

from datetime import date

import pytest
from pydantic import ValidationError

from gpulaunch.models.instances import Phase
from gpulaunch.models.queries import CatalogQuery, CostsQuery, EventQuery, InstanceQuery, Query, QuotaQuery


@pytest.mark.parametrize(
    ("kind", "given", "field"),
    [
        (InstanceQuery, {"phase": "reedy"}, "phase"),
        (InstanceQuery, {"provider": "azur"}, "provider"),
        (InstanceQuery, {"provider": ""}, "provider"),
        (InstanceQuery, {"page_size": "0"}, "page_size"),
        (InstanceQuery, {"page_size": "201"}, "page_size"),
        (InstanceQuery, {"page_size": "1_0"}, "page_size"),
        (InstanceQuery, {"page_size": " 5"}, "page_size"),
        (InstanceQuery, {"page_size": "\u0661"}, "page_size"),
        (InstanceQuery, {"live": "yes"}, "live"),
        (InstanceQuery, {"live": "True"}, "live"),
        (InstanceQuery, {"colour": "red"}, "colour"),
        (EventQuery, {"after": "-2"}, "after"),
        (EventQuery, {"after": "1e3"}, "after"),
        (CatalogQuery, {"provider": "ibm"}, "provider"),
        (CostsQuery, {"from": "1767225600"}, "from"),
        (CostsQuery, {"to": "2026-02-30"}, "to"),
        (CostsQuery, {"first_day": "2026-02-01"}, "first_day"),
        (CostsQuery, {"by": "hour"}, "by"),
        (CostsQuery, {"format": "xml"}, "format"),
        (CostsQuery, {"label": "team"}, "label"),
        (CostsQuery, {"by": "label", "label": ""}, "label"),
        (QuotaQuery, {"regions": "eastus"}, "regions"),
    ],
)
def test_a_query_should_refuse(kind: type[Query], given: dict[str, str], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        kind.model_validate(given)

    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


def test_a_query_should_read_the_text_of_an_address() -> None:
    listed = InstanceQuery.model_validate(
        {"phase": "ready", "live": "false", "label": "team=a=b", "page_size": "200", "code": "a host's key"}
    )
    spent = CostsQuery.model_validate({"from": "2026-01-02", "by": "label", "label": "team"})

    assert (listed.phase, listed.live, listed.page_size) == (Phase.READY, False, 200)
    assert listed.label_filter == ("team", "a=b")
    assert InstanceQuery(label="team").label_filter == ("team", None)
    assert InstanceQuery(label="").label_filter is None
    assert (spent.first_day, spent.last_day, spent.label) == (date(2026, 1, 2), None, "team")
    assert QuotaQuery(region="eastus, westus,").regions == ("eastus", "westus")


def test_a_query_should_be_sent_as_text_that_it_reads_again() -> None:
    sent = InstanceQuery.text(phase=Phase.READY, provider=None, live=True, page_size=100)

    assert sent == {"phase": "ready", "live": "true", "page_size": "100"}
    assert InstanceQuery.model_validate(sent).live is True
    assert CostsQuery.text(first_day=date(2026, 1, 2), by="day") == {"from": "2026-01-02", "by": "day"}


def test_the_app_should_judge_the_values_that_a_client_sends() -> None:
    assert InstanceQuery.text(provider="a-provider-of-a-later-version") == {"provider": "a-provider-of-a-later-version"}
