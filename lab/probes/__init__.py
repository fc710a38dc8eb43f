"""What is measured beside latency: storage, traffic, CPU."""
