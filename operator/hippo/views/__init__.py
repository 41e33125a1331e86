"""Views of a study for people: summary, results, preview of a plan, a study as stored."""
