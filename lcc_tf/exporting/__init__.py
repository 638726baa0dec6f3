"""Export of trained networks and ensembles to files that run without lcc_tf."""
