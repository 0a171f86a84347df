"""What a node does for its clients all over the cluster: plans and reads go to the groups' leaders.

Owns routing, the search for leaders, insertion, changes of the schema, and the query's view of the
cluster. Knows nothing of Thrift handlers or SQL. Start at `coordinator.py`; the way of a plan is
`inserter.py`, `groups_access.py`, `forwarder.py`, that of a read `cluster_backend.py`,
`query_reads.py`, `own_replicas.py`.
"""
