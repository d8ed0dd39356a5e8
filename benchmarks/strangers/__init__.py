"""People that no network was trained on: what refinement gives them, and what is true of them."""
