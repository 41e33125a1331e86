"""The records that drivers, workers and users' programs write to each other."""
