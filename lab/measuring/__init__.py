"""How an experiment measures: the bench, blocks of slices, what was used, and the run's folder."""
