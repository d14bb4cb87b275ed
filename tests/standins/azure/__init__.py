"""A stand-in for Azure's resource manager: real HTTPS, real long-running operations, spoken to by the real clients."""

from tests.standins.azure.credential import StaticCredential
from tests.standins.azure.manager import SUBSCRIPTION, Fault, ResourceManager
from tests.standins.azure.server import AzureServer

__all__ = ["SUBSCRIPTION", "AzureServer", "Fault", "ResourceManager", "StaticCredential"]
