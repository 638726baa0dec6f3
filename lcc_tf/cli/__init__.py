"""The commands. Each command has its own module. `options` contains shared options."""
