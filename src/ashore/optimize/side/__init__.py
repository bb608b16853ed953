"""Scripts that run in their own environment, because their libraries conflict with ours."""
