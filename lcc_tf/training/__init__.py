"""Training one network: phases, checkpoints, devices."""
