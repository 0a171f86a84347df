"""Thrift transport: generated code (`gen/`), servers with limits, channels, deadlines, the loop.

What turns wire structs into values of the domain, and back, is in `convert*.py`; what makes codes
of statuses in `status.py`. Knows no plan, query or SQL. Start at `server.py` and `client_pool.py`.
"""
