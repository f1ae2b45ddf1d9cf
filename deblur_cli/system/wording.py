"""Words that go with a number. Knows nothing of what is counted."""


def count(number: int, thing: str) -> str:
    """`1 photo`, `2 photos`, `1,250 photos`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
