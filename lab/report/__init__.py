"""Results file, charts, page, terminal."""
