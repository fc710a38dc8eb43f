"""The experiment `make cache`: `experiment.py` has its question, arms, procedure and findings."""
