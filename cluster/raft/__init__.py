"""The pure consensus core: no threads, sockets, files, clocks or random of its own.

In the order in which they are best read:

- `types.py`, `events.py`, `messages.py`, `effects.py`: what goes in, and what comes out;
- `core.py`: one `step`, and the tables of who handles what; `state.py`: what is remembered;
- `follower.py`, `candidate.py`, `leader.py`: the roles; a leader's sending is in `replication.py`,
  its reads are in `reads.py`;
- `membership.py` (the rules, and why they are safe), `reconfigure.py`; `quiescence.py`: groups
  that sleep;
- what those rest on, each by itself: `quorum.py`, `log_view.py`, `progress.py`, `read_index.py`;
  `invariants.py` looks after each step.
"""
