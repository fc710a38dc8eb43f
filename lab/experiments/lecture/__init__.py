"""The experiment `make lecture`: `experiment.py` has its question, arms, procedure and findings."""
