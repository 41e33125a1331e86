"""Hyper-parameter sequences: schedules, their canonical form, exact numbers."""
