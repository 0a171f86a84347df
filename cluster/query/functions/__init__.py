"""The built-in time-series functions (sql.md 6.2), each over whole batches.

`function.py` says what a function is; `registry.py` finds one by name.
"""
