"""What it costs to bring models to branch offices."""
