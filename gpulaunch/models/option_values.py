"""The values that arguments give to vLLM's options, and where they stand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gpulaunch.models.vllm_arguments import FLAGS, read


@dataclass(frozen=True, kw_only=True)
class OptionValue:
    """One value of an option; options that take several have several."""

    option: str
    """The long name without its dashes, and with the keys into its JSON: `lora-modules`, `speculative-config.model`."""
    text: str
    place: int
    """Index of the argument that holds it."""
    offset: int
    """Where it begins in that argument."""


def option_values(args: Sequence[str]) -> Iterator[OptionValue]:
    """Yield the values of all options; an option without a value has none."""
    option = ""
    for place, arg in enumerate(args):
        given = read(arg)
        if given is not None:
            known = FLAGS.get(given.flag)
            option = ".".join(((known.name if known else given.flag).lstrip("-"), *given.keys))
            if given.value is not None:
                yield OptionValue(option=option, text=given.value, place=place, offset=len(arg) - len(given.value))
        elif option:
            yield OptionValue(option=option, text=arg, place=place, offset=0)


def last_values(args: Sequence[str]) -> dict[str, str]:
    """Return the value of each option; the last one wins, as in vLLM."""
    return {value.option: value.text for value in option_values(args)}
