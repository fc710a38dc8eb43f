"""What runs the strategies and judges them."""
