"""Typed settings read from conf/iotdb-cluster.properties, and their comparison across nodes.

Knows nothing of threads or sockets. Start at `settings.py`.
"""
