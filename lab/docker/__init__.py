"""The real compose file as a place to measure: shops in containers."""

from lab.docker.place import Containers

__all__ = ["Containers"]
