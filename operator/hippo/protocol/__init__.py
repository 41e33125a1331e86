"""The records that drivers, workers and users' programs exchange."""
