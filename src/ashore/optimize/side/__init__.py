"""Scripts that run in an environment of their own, because their libraries cannot stand beside ours."""

__all__: list[str] = []
