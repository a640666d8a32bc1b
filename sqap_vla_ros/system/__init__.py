"""What drives nodes from outside: sessions, the demo client, soak runs and timings."""
