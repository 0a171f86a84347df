"""One OS thread per group member that ticks its core: HeartbeatThread, its Meta and Data kinds."""
