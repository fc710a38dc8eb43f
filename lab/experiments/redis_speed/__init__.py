"""The experiment `make redis-speed`: `experiment.py` has its question, arms, procedure and findings."""
