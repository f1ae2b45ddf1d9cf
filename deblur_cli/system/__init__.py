"""This machine: devices, memory, folders, files written whole, and who else is at work on them."""
