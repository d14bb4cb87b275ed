"""A world with the real SkyPilot provider, talking HTTP to a stand-in of its server."""

from collections.abc import Callable

from shared.backends.base import Backend
from shared.backends.skypilot.provider import SkyPilotProvider
from shared.redaction import Redactor
from tests.functional.scripted import Assigning, Scripted
from tests.functional.world import World, settings
from tests.standins.sky_server import SkyServer
from tests.twins.factories import DEPLOYMENT


class SkyPilotWorld(World):
    """Launches go to `server`, which sleeps when the test says so."""

    def __init__(self, server: SkyServer, deployment: str = DEPLOYMENT, **more: str) -> None:
        given = settings(
            GPULAUNCH_ORCHESTRATOR="skypilot",
            GPULAUNCH_PUBLIC_URL="https://app.example.com",
            SKYPILOT_API_SERVER_ENDPOINT=server.url,
            **more,
        )
        self.server = server
        self.made: Backend | None = None
        self.close: Callable[[], None] = lambda: None
        """Close the connections to the server."""
        super().__init__(given=given, backend=lambda _: self.real(), assignments=Assigning(), deployment=deployment)
        server.now = lambda: self.clock.now().timestamp()

    def real(self) -> Backend:
        if self.made is None:
            provider = SkyPilotProvider(self.given, self.clock, Redactor(), script=lambda: "echo hi")
            self.made = Backend(provider, Scripted())
            self.close = provider.close
        return self.made
