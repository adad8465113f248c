"""The whole path on one machine, with an embedded AWS."""
