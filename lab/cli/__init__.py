"""The command line: one command a door."""

from lab.cli.command import INTERRUPTED, main
from lab.cli.doors import cli

__all__ = ["INTERRUPTED", "cli", "main"]
