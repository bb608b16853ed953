"""A room that is nowhere but in tests: books and notes on them."""

__all__: list[str] = []
