"""The commands: one module for each, and the options that they share."""
