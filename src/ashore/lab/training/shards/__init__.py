"""Training data of any size: named, fetched, indexed, and read ahead of the step that needs it."""
