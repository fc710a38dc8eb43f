"""The experiment `make compare`: `experiment.py` has its question, arms, procedure and findings."""
