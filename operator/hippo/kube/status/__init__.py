"""Statuses of Studies, Trials and SearchPlans: their models, and how they are built."""
