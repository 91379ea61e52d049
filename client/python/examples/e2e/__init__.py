"""What e2e_benchmark.py is made of."""
