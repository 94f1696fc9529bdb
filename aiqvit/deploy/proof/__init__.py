"""What proves an export: integer kernels counted, layers compared one by one, size and latency measured."""
