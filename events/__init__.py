"""The vocabulary of every process: what an event is, how it is read, stored and published."""
