"""A stand-in for Azure's resource manager: real HTTPS, real long-running operations, spoken to by the real clients."""

from tests.standins.azure.account import SUBSCRIPTION
from tests.standins.azure.credential import StaticCredential
from tests.standins.azure.manager import ResourceManager
from tests.standins.azure.server import AzureServer
from tests.standins.azure.shapes import Fault

__all__ = ["SUBSCRIPTION", "AzureServer", "Fault", "ResourceManager", "StaticCredential"]
