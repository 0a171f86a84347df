"""Code generated from thrift/cluster.thrift by thrift/generate.sh. Never edited."""
