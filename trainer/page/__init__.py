"""Pages to look at: what was measured of videos, as HTML that needs no network."""
