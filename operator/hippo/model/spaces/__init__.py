"""Search spaces: domains of values and schedules, and seeded sampling."""
