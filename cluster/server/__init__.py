"""Thrift handlers, thin: MetaClusterServer, DataClusterServer, ClientServer, and nodetool."""
