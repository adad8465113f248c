"""Train, export, quantise and evaluate the detector: tools, none of them in the image."""
