"""Code generated from thrift/client.thrift by thrift/generate.sh. Never edited."""
