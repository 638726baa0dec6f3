"""Export of trained networks and ensembles for use without lcc_tf."""
