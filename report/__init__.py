"""What people look at: scores with their intervals, and the tables made of them."""
