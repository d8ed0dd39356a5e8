"""Video and clips -> shards. Knows files, faces, audio and tar; imports nothing of `trainer`."""

from data_tools.interrupt import watch_start

watch_start()
