"""Video and clips -> shards. Knows files, faces, audio and tar; imports nothing of `trainer`."""
