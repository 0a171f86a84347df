"""Physical plans: what a statement becomes, and its byte form in the Raft log."""
