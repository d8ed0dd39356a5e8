"""Shards -> batches -> model -> checkpoints -> offsets. Takes from `data_tools` only the shard
format, the synthetic set and the MFCC arithmetic."""

from data_tools.interrupt import watch_start

watch_start()
