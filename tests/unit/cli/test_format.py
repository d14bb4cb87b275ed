"""Values as people read them."""

import pytest

from gpulaunch.cli.format import clean, offer, option_of
from gpulaunch.format import span
from gpulaunch.models.offers import Offer


@pytest.mark.parametrize(
    ("least", "most", "text"),
    [
        (0.2, 0.2, "about 0.2 s"),
        (81, 81, "about 1 m"),
        (1, 30, "1 to 30 s"),
        (45, 900, "45 s to 15 m"),
        (60, 2800, "1 to 47 m"),
    ],
)
def test_expected_times(least: float, most: float, text: str) -> None:
    assert span(least, most) == text


@pytest.mark.parametrize(
    ("field", "option"),
    [
        ("model_name", "MODEL"), ("body", "launch"), ("gpu", "--gpu"), ("max_hourly_cost", "--max-hourly-cost"),
        ("labels.a.b", "--label (a.b)"), ("vllm_args.0", "--vllm-arg (0)"), ("job.command.1", "--job (command.1)"),
        ("region.2", "--region (2)"),
    ],
)  # fmt: skip
def test_fields_should_be_named_as_options(field: str, option: str) -> None:
    assert option_of(field) == option


def test_text_should_keep_lines_tabs_and_every_script_but_no_control_character() -> None:
    kept = "a\tb\nc é 漢 🚀"
    assert clean(kept + "\r\n") == kept + "\n"
    assert clean("abc\u202edef\u2066") == "abc\ufffddef\ufffd"
    assert clean("\x1b[2J\x07\x00\r\x7f\x85") == "\ufffd[2J\ufffd\ufffd\ufffd\ufffd\ufffd"


def test_an_offer_without_a_machine_type_should_name_the_gpu() -> None:
    own = Offer(
        provider="slurm", region="hpc", instance_type=None, gpu="A100", gpu_count=2, use_spot=False, price_per_hour=0
    )
    assert offer(own) == "on-demand A100:2 in slurm/hpc, $0.00/h"
