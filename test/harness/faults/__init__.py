"""Faults against real node processes: nemeses that inject them, workloads that notice.

Start reading at `runner.py`.
"""
