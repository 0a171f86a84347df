"""Thrift transport: generated code, servers with limits, channels, deadlines, wire conversion.

`convert.py` and `status.py` are the only places that know both wire structs and domain types.
"""
