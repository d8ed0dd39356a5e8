"""Bad input by the million: what every reader does with files that are damaged or hostile."""
