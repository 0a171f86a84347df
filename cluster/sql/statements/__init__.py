"""What SQL texts mean, as values, one module for each family of statements.

Immutable; equal texts give equal statements. Paths are text with backquotes removed
(`cluster.schema.paths.split_path` takes them apart); times are integers in units of the configured
precision. A family's module ends with the union of its statements; `families.py` joins them.
"""
