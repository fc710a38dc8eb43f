"""The experiment `make contention`: `experiment.py` has its question, arms, procedure and findings."""
