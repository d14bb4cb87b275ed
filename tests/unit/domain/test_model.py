"""By which repository and commit something beside the model is fetched."""

import pytest

from shared.domain.model import ExtraFacts, ModelFacts


@pytest.mark.parametrize(
    ("name", "revision", "pinned"),
    [
        ("o/lora", "main", ("new/lora", "c1")),
        ("o/lora", "v2", ("new/lora", "c2")),
        ("o/lora", "v3", ("o/lora", "v3")),
        ("o/other", "main", ("o/other", "main")),
        ("o/unpinned", "main", ("o/unpinned", "main")),
    ],
)
def test_an_extra_should_be_fetched_by_the_commit_that_was_found_for_it(
    name: str, revision: str, pinned: tuple[str, str]
) -> None:
    lora = ExtraFacts(name="o/lora", repository="new/lora", commit="c1", total_bytes=1)
    later = lora.model_copy(update={"revision": "v2", "commit": "c2"})
    unpinned = ExtraFacts(name="o/unpinned", repository="new/unpinned", total_bytes=1)
    facts = ModelFacts(source="hf://o/m", total_bytes=1, weight_bytes=1, extras=[lora, later, unpinned])
    assert facts.pinned_extra(name, revision) == pinned
