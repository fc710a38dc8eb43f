"""History, checks and witnesses."""
