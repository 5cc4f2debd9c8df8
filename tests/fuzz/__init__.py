"""Damaged and hostile files for everything that reads files: `python -m tests.fuzz`, or `make fuzz`."""
