"""What ``make bench`` is made of: contestants in processes of their own, rounds, tables."""
