"""What a step trains on: which windows (sampler), of which clips (dataset), fed by the loader."""
