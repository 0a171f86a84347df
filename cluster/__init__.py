"""The server process. Start reading at `main.py`, one function per start-up step."""
