"""The network: its layers, its losses and the files that its weights are read from."""
