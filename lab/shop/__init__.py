"""The web shop under test."""
