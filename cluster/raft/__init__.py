"""The pure consensus core: no threads, sockets, files, clocks or random of its own.

Start at `types.py`, then `events.py`, `effects.py`, then `core.py`.
"""
