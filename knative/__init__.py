"""ShelfWatch on Knative: manifests, and the conductor of its rollouts."""
