"""The experiment `make scale`: `experiment.py` has its question, arms, procedure and findings."""
