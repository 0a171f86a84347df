"""The server process, in rooms: `docs/architecture.md` says what each owns, and who may know whom.

Start reading at `main.py`, one function per start-up step; or with a row on its way: `server`,
`coordinator`, `member`, `raft` and `log`, and the engine.
"""
