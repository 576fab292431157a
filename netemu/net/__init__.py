"""Links between devices, what joins several of them, and the clock they share."""
