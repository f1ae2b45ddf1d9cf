"""One file for each photo format, `NAME_container.py`, and the parts that some of them are made of."""
