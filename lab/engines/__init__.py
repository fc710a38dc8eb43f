"""Find, start, stop, kill and pause PostgreSQL, Redis and nginx: one file each, one shape."""
