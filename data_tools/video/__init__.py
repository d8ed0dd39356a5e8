"""A video: its pictures, shots, faces and sound, cut into clips."""
