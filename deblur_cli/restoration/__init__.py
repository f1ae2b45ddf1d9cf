"""One photo: cut, restored by whatever backend is given, put together again. Knows no network."""
