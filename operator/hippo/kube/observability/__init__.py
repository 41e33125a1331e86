"""Metrics, Events, logs and health, for those who watch the operator."""
