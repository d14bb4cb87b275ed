"""Whether the promises about scalers are kept is told from points of node-hours and seconds."""

from bench.scaler.comparison import KEDA, OURS, PEERS, PRESETS, Result, compared, dominating, no_longer, shorter

Points = dict[str, tuple[float, float]]
FAR = (99.0, 99.0)


def results(ours: tuple[float, float], **peers: tuple[float, float]) -> dict[tuple[str, str], Result]:
    points: Points = dict.fromkeys(PEERS, FAR) | dict.fromkeys(PRESETS, ours)
    points |= {KEDA: peers.get("keda", FAR)}
    return {
        ("one", name): Result(trace="one", scaler=name, node_hours=[hours], p95=[seconds], p99=[seconds])
        for name, (hours, seconds) in points.items()
    }


def test_a_peer_should_beat_the_presets_only_below_and_left_of_all_of_them() -> None:
    assert dominating(results((10.0, 50.0), keda=(9.0, 50.0))) == [("one", KEDA)]
    assert dominating(results((10.0, 50.0), keda=(9.0, 51.0))) == []
    assert dominating(results((10.0, 50.0), keda=(10.0, 50.0))) == []
    spared = results((10.0, 50.0), keda=(9.0, 50.0))
    spared["one", "thrifty"] = Result(trace="one", scaler="thrifty", node_hours=[8.0], p95=[60.0], p99=[60.0])
    assert dominating(spared) == []


def test_equal_waits_should_be_no_longer_but_not_shorter() -> None:
    equal = results((10.0, 50.0), keda=(20.0, 50.0))
    assert (no_longer(equal, "quick", KEDA), shorter(equal, "quick", KEDA)) == (["one"], [])
    less = results((10.0, 49.0), keda=(20.0, 50.0))
    assert (no_longer(less, "quick", KEDA), shorter(less, "quick", KEDA)) == (["one"], ["one"])


def test_presets_should_trade_node_hours_for_waiting_and_each_be_cheaper_than_keda() -> None:
    """On the made trace of a trickle, with three seeds: the whole comparison is the benchmark's."""
    found = compared((1, 2, 3), {KEDA: PEERS[KEDA], **OURS}, None, longest=2000)
    hours = [found["sparse", name].point[0] for name in (*PRESETS, KEDA)]
    assert hours == sorted(hours)
    assert found["sparse", "quick"].point[1] < found["sparse", "thrifty"].point[1]
