"""Query planning and execution over column batches, and functions (`udf/`: those of users).

Asks for series and rows through `backend.py`; where they are it does not know. Start at
`executor.py`, then `selection.py`. What begins with `modern_` is for sessions of 1.0 and later.
"""
