"""The experiment `make hotspot`: `experiment.py` has its question, arms, procedure and findings."""
