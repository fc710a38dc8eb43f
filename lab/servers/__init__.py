"""The web servers of a cluster: one process each, forked from one preloaded process."""

from lab.servers.client import ForkServer, ServerProcess
from lab.servers.plan import ServerPlan

__all__ = ["ForkServer", "ServerPlan", "ServerProcess"]
