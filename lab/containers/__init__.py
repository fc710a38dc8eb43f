"""The lab's clusters in containers: Docker Compose, driven from here."""

from lab.containers.compose import Compose, ComposeFailed, DockerMissing

__all__ = ["Compose", "ComposeFailed", "DockerMissing"]
