"""The experiment `make failover`: `experiment.py` has its question, arms, procedure and findings."""
