"""Tables, progress and trees, as people read them."""
