"""Query planning and execution over column batches."""
