"""Speakers that no network was trained on: who they are, and how right each network is on them."""
