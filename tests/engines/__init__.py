"""The engines, started for real."""
