"""The experiment `make saturation`: `experiment.py` has its question, arms, procedure and findings."""
