"""Scheduling of workers: least-laxity paths, fair share, aging, preemption."""
