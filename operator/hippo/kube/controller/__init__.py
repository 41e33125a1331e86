"""Which studies there are, which plan each belongs to, and one worker for each plan."""
