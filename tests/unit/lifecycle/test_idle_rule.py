"""An idle rule that cannot work says so: vLLM shows no requests without its metrics."""

from gpulaunch.models.instances import EventType, Phase, Reason
from shared.domain.node import NodePhase
from shared.domain.provider import Probe
from tests.unit.lifecycle.story import IDLE, Story, probed, ready, reported

NO_METRICS = Probe(alive=True, message="vLLM's metrics don't show its requests")


def live(story: Story, *probes: Probe, seconds: float) -> Story:
    """Probe every half minute for a time, with the probes in turn, and let its agent report."""
    for number in range(int(seconds // 30)):
        story.wait(30).see(reported(NodePhase.SERVING))
        story.see(probed(probes[number % len(probes)]))
    return story


def test_it_should_be_said_once_that_the_rule_has_no_effect() -> None:
    story = live(ready(idle_minutes=10), NO_METRICS, seconds=3600)
    (said,) = story.of(EventType.HEALTH)
    assert "idle_minutes has no effect" in said.message
    assert "metrics don't show" in said.message
    assert story.record.health is not None
    assert story.record.health.message == NO_METRICS.message


def test_metrics_that_come_and_go_should_not_fill_the_timeline() -> None:
    story = live(ready(idle_minutes=10), NO_METRICS, IDLE, seconds=3600)
    assert len(story.of(EventType.HEALTH)) <= 5
    assert story.phase is Phase.READY


def test_a_node_that_shows_half_of_its_load_should_not_be_one_without_metrics() -> None:
    for half in ({"running_requests": 1}, {"waiting_requests": 1}):
        probe = Probe(alive=True, message="half of the metrics are missing", **half)
        assert live(ready(idle_minutes=10), probe, seconds=600).of(EventType.HEALTH) == []


def test_it_should_be_said_again_after_a_while_and_not_before() -> None:
    quiet = ready(idle_minutes=60).timeouts.flapping_quiet
    for seconds, count in ((quiet - 1, 1), (quiet, 2)):
        story = ready(idle_minutes=60)
        story.wait(30).see(probed(NO_METRICS))
        story.see(probed(IDLE))
        story.wait(seconds).see(reported(NodePhase.SERVING))
        story.see(probed(NO_METRICS))
        assert len(story.of(EventType.HEALTH)) == count


def test_once_the_metrics_are_back_the_rule_should_work() -> None:
    story = live(ready(idle_minutes=10), NO_METRICS, seconds=300)
    live(story, IDLE, seconds=660)
    assert story.ending is Reason.IDLE


def test_without_an_idle_rule_nothing_should_be_said() -> None:
    story = live(ready(), NO_METRICS, seconds=3600)
    assert story.of(EventType.HEALTH) == []
