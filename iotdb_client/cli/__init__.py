"""The SQL shell and CSV import: `main.py` has the commands, the others one job each."""
