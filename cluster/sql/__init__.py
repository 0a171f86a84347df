"""Grammar, parser and statements of the SQL dialect. Knows nothing of execution.

Start at `parser.py`; a tree becomes statements (`statements/`) in `builder.py` and its families.
"""
