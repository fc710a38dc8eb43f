"""The door `make load`: `experiment.py` has its question, arms, procedure and findings."""
