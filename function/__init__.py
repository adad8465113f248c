"""The detector as a function: an image or an image event in, a shelf audit out."""
