"""Stage pods: how they are built, what a user's template may add, what their statuses mean."""
