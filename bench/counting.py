"""What launches and nodes take of storage, what that costs, and where the first limit is: counts and list prices."""

from bench.results import Figure, figure
from bench.scale import SIMULATED, Costs, bounds, real_launch

SECTION = "cost"


def measure() -> list[Figure]:
    """From the counts that tests/functional/test_counts.py holds true."""
    costs, found = Costs(), list[Figure]()

    def add(what: str, value: float, unit: str, target: float | None = None) -> None:
        found.append(figure(SECTION, what, [value], unit, target=target))

    add("operations of a launch until it is terminated", SIMULATED.table_requests + SIMULATED.sends, "", 30)
    for name, launch in (("simulated", SIMULATED), ("real", real_launch())):
        storage, executions = costs.launches(launch)
        add(f"1,000 {name} launches: storage", storage, "USD")
        add(f"1,000 {name} launches: executions", executions, "USD")
    for fleet in (1, 100):
        storage, executions = costs.node_month(fleet)
        add(f"a month of one of {fleet} nodes: storage", storage, "USD")
        add(f"a month of one of {fleet} nodes: executions", executions, "USD")
    storage, executions, after_grants = costs.idle_month()
    add("an idle month: storage", storage, "USD")
    add("an idle month: executions", executions, "USD")
    add("an idle month: executions after the free grants", after_grants, "USD")
    for bound in bounds(real_launch()):
        if bound.per_minute is not None:
            add(f"real launches a minute that meet: {bound.what}", bound.per_minute, "")
        if bound.nodes is not None:
            add(f"nodes that meet: {bound.what}", bound.nodes, "")
    return found
