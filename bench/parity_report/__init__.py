"""What ``bench/parity.py`` is made of: executors, figures, stages, verdicts and the report."""
