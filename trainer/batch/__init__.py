"""Many videos: measured side by side, each on disk the moment it is done, and gone on with."""
