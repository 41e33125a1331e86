"""What people read of a study: summary, results, preview of a plan, a study as its store has it."""
