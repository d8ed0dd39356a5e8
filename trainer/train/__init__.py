"""A training: the loop's parts, from the state that is saved to the lines on the screen."""
