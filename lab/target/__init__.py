"""A deployment that runs already, measured as it stands."""

from lab.target.deployment import Deployment
from lab.target.file import Target, read

__all__ = ["Deployment", "Target", "read"]
