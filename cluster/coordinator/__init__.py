"""The Coordinator routes plans to the leaders of the groups that own them."""
