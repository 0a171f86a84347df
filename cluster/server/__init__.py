"""The three Thrift servers of a node and their handlers, and nodetool.

Handlers are thin: they take structs apart, ask the coordinator or a member, and put the answer
together. Nothing below imports this room. Start at `client_server.py`; for what other nodes ask at
`raft_handler.py`. The row loop's part is in `loop_*.py`, what is answered by its bytes in
`quick_*.py`.
"""
