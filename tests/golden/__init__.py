"""What earlier versions have left behind, half-way through a study: objects, and the store."""
