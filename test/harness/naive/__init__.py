"""What SELECT answers, worked out one point at a time over dictionaries: the specification of it.

Written from the dialect's rules alone; shares no code with `cluster.query`. A query is a value of
its own (`query.Query`), which `harness.random_queries` makes and renders as SQL.
"""
