"""What ``make bench-quality`` is made of: scenes with exact truth, an oracle, figures, a sheet."""
